"""Four laws of physics: pendulum, spring, thin lens, and a source with inner resistance.

Held-out points lie outside the range of the apparatus, so the law is needed, not interpolation.
"""

from __future__ import annotations

import math

import numpy as np

from environments.mechanism.law import Hidden, Knob, Law, Output, Question, Setting, grid, two_apart

STANDARD_GRAVITY = 9.81
"""m/s², near the Earth's surface."""


class Pendulum(Law):
    """Small swings of a simple pendulum: T = 2π √(L/g); hidden g between 1.5 and 25 m/s²."""

    name = "pendulum"
    story = "A pendulum on an unknown planet."
    knobs = (Knob("length", 0.1, 1.0, "m"),)
    outputs = (Output("period", "s"),)

    def hidden(self, rng: np.random.Generator) -> Hidden:
        return {"g": float(rng.uniform(1.5, 25.0))}

    def truth(self, hidden: Hidden, setting: Setting) -> tuple[float, ...]:
        return (2 * math.pi * math.sqrt(setting["length"] / hidden["g"]),)

    def given(self, rng: np.random.Generator, hidden: Hidden) -> tuple[list[Setting], Question]:
        # A reading at a quarter of the asked length lets the worker simply double it.
        short = grid(rng, 0.1, 1.0, 0.05)
        lengths = sorted({short, grid(rng, 0.1, 1.0, 0.05), grid(rng, 0.1, 1.0, 0.05)})
        return [{"length": value} for value in lengths], Question({"length": 4 * short})

    def held_out(self, rng: np.random.Generator, hidden: Hidden) -> list[Question]:
        return [Question({"length": value}) for value in two_apart(rng, 1.5, 4.0, 0.05)]


class Spring(Law):
    """A hanging spring: length = L₀ + m·9.81/k; hidden natural length and stiffness."""

    name = "spring"
    story = "An unknown spring hangs on Earth with a mass on it."
    knobs = (Knob("mass", 0.1, 1.0, "kg"),)
    outputs = (Output("length", "cm"),)

    def hidden(self, rng: np.random.Generator) -> Hidden:
        # Natural length in cm, stiffness in N/m: 1 kg stretches it by 12 to 49 cm.
        return {"rest": float(rng.uniform(4.0, 12.0)), "k": float(rng.uniform(20.0, 80.0))}

    def truth(self, hidden: Hidden, setting: Setting) -> tuple[float, ...]:
        return (hidden["rest"] + 100 * setting["mass"] * STANDARD_GRAVITY / hidden["k"],)

    def given(self, rng: np.random.Generator, hidden: Hidden) -> tuple[list[Setting], Question]:
        step = grid(rng, 0.1, 0.3, 0.02)
        start = grid(rng, 0.1, 0.4, 0.05)
        masses = [round(start + step * i, 3) for i in range(4)]
        return [{"mass": value} for value in masses[:3]], Question({"mass": masses[3]})

    def held_out(self, rng: np.random.Generator, hidden: Hidden) -> list[Question]:
        return [Question({"mass": value}) for value in two_apart(rng, 1.2, 2.4, 0.05)]


class Lens(Law):
    """A thin converging lens: 1/f = 1/u + 1/v; hidden focal length between 6 and 12 cm."""

    name = "lens"
    story = "An unknown converging lens casts a sharp image on a screen."
    knobs = (Knob("object", 40.0, 100.0, "cm"),)
    outputs = (Output("image", "cm"),)

    def hidden(self, rng: np.random.Generator) -> Hidden:
        return {"f": float(rng.uniform(6.0, 12.0))}

    def truth(self, hidden: Hidden, setting: Setting) -> tuple[float, ...]:
        distance = setting["object"]
        return (distance * hidden["f"] / (distance - hidden["f"]),)

    def given(self, rng: np.random.Generator, hidden: Hidden) -> tuple[list[Setting], Question]:
        middle = grid(rng, 24.0, 32.0, 0.5)
        gap = grid(rng, 6.0, 8.0, 0.5)
        near: list[Setting] = [{"object": value} for value in (middle - gap, middle + gap)]
        return near, Question({"object": middle})

    def held_out(self, rng: np.random.Generator, hidden: Hidden) -> list[Question]:
        return [Question({"object": value}) for value in two_apart(rng, 18.0, 30.0, 0.5)]


class Circuit(Law):
    """A source with inner resistance: I = E / (R + r); hidden voltage E and inner resistance r."""

    name = "circuit"
    story = "A battery of unknown voltage and inner resistance drives one resistor."
    knobs = (Knob("resistor", 2.0, 20.0, "ohm"),)
    outputs = (Output("current", "A"),)

    def hidden(self, rng: np.random.Generator) -> Hidden:
        return {"emf": float(rng.uniform(3.0, 24.0)), "inner": float(rng.uniform(0.5, 5.0))}

    def truth(self, hidden: Hidden, setting: Setting) -> tuple[float, ...]:
        return (hidden["emf"] / (setting["resistor"] + hidden["inner"]),)

    def given(self, rng: np.random.Generator, hidden: Hidden) -> tuple[list[Setting], Question]:
        middle = grid(rng, 8.0, 16.0, 0.5)
        gap = grid(rng, 1.0, 3.0, 0.5)
        near: list[Setting] = [{"resistor": value} for value in (middle - gap, middle + gap)]
        return near, Question({"resistor": middle})

    def held_out(self, rng: np.random.Generator, hidden: Hidden) -> list[Question]:
        return [Question({"resistor": value}) for value in two_apart(rng, 24.0, 50.0, 0.5)]
