"""Two laws of chemistry: titrating a weak acid, and reaction rate against temperature."""

from __future__ import annotations

import math

import numpy as np

from environments.mechanism.law import Hidden, Knob, Law, Output, Question, Setting, grid, two_apart

GAS_CONSTANT = 8.314462618
"""J/(mol·K), CODATA 2018."""
WATER_PRODUCT = 1e-14
"""Ion product of water at 25 °C, mol²/l²."""


class Titration(Law):
    """pH of 25 ml of a weak acid after adding 0.1 mol/l NaOH, from the exact charge balance.

    Hidden are the acid's pKa (3.2 to 6.5) and the volume of base that neutralises it (15 to 30
    ml). Held-out points keep away from the equivalence point, where the slope has no bound, and
    from the excess of base, where every acid looks the same.
    """

    name = "titration"
    story = "25 ml of an unknown weak acid; you add 0.1 mol/l NaOH."
    knobs = (Knob("volume", 0.0, 40.0, "ml"),)
    outputs = (Output("pH", scale=2.0),)

    _acid_ml = 25.0
    _base = 0.1

    def hidden(self, rng: np.random.Generator) -> Hidden:
        return {"pka": float(rng.uniform(3.2, 6.5)), "neutral": float(rng.uniform(15.0, 30.0))}

    def truth(self, hidden: Hidden, setting: Setting) -> tuple[float, ...]:
        volume = self._acid_ml + setting["volume"]
        acid = self._base * hidden["neutral"] / volume
        sodium = self._base * setting["volume"] / volume
        strength = 10 ** -hidden["pka"]
        # The charge [H] + [Na] − Kw/[H] − acid·Ka/(Ka+[H]) rises with [H]: halve until it is zero.
        low, high = 0.0, 14.0
        for _ in range(60):
            ph = (low + high) / 2
            h = 10**-ph
            charge = h + sodium - WATER_PRODUCT / h - acid * strength / (strength + h)
            low, high = (ph, high) if charge > 0 else (low, ph)
        return ((low + high) / 2,)

    def sigma(self, loud: bool) -> float:
        """Standard deviation of a reading, in pH."""
        return 0.04 if loud else 0.02

    def noise(self, loud: bool) -> str:
        return f"noise {self.sigma(loud):g} pH"

    def read(
        self, hidden: Hidden, setting: Setting, loud: bool, rng: np.random.Generator
    ) -> tuple[float, ...]:
        (ph,) = self.truth(hidden, setting)
        return (ph + self.sigma(loud) * float(rng.standard_normal()),)

    def given(self, rng: np.random.Generator, hidden: Hidden) -> tuple[list[Setting], Question]:
        middle = grid(rng, 6.0, 9.0, 0.25)
        gap = grid(rng, 3.0, 5.0, 0.25)
        near: list[Setting] = [{"volume": value} for value in (middle - gap, middle + gap)]
        return near, Question({"volume": middle})

    def held_out(self, rng: np.random.Generator, hidden: Hidden) -> list[Question]:
        return [Question({"volume": value}) for value in two_apart(rng, 3.0, 12.0, 0.25)]


class ReactionRate(Law):
    """Arrhenius: k = k₃₂₀ exp(−Ea/R (1/T − 1/320 K)); hidden k₃₂₀ and Ea (30 to 80 kJ/mol)."""

    name = "reaction_rate"
    story = "A reaction runs at a rate that depends on temperature."
    knobs = (Knob("temperature", 290.0, 340.0, "K"),)
    outputs = (Output("rate", "1/s"),)

    _middle_k = 320.0

    def hidden(self, rng: np.random.Generator) -> Hidden:
        return {
            "rate": float(10 ** rng.uniform(0.0, 1.3)),
            "energy": float(rng.uniform(30e3, 80e3)),
        }

    def truth(self, hidden: Hidden, setting: Setting) -> tuple[float, ...]:
        inverse = 1 / setting["temperature"] - 1 / self._middle_k
        return (hidden["rate"] * math.exp(-hidden["energy"] / GAS_CONSTANT * inverse),)

    def given(self, rng: np.random.Generator, hidden: Hidden) -> tuple[list[Setting], Question]:
        middle = grid(rng, 300.0, 330.0, 1.0)
        gap = grid(rng, 4.0, 10.0, 1.0)
        near: list[Setting] = [{"temperature": value} for value in (middle - gap, middle + gap)]
        return near, Question({"temperature": middle})

    def held_out(self, rng: np.random.Generator, hidden: Hidden) -> list[Question]:
        cold = grid(rng, 276.0, 286.0, 0.2)
        hot = grid(rng, 344.0, 354.0, 0.2)
        return [Question({"temperature": cold}), Question({"temperature": hot})]
