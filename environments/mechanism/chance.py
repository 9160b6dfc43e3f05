"""Two worlds of chance: a causal graph with hidden edges, and a biased process."""

from __future__ import annotations

import math

import numpy as np

from environments.mechanism.law import Hidden, Knob, Law, Output, Question, Setting, grid, two_apart

VARIABLES = ("A", "B", "C")


class CausalGraph(Law):
    """Three quantities in a linear structural model with hidden order, edges and weights.

    Each quantity is its base value plus the weighted values of its causes, unless the worker
    holds it (Pearl's do-operator). Held-out points at levels 1 and 2 hold two quantities at
    once, which needs direct effects told from those that pass through the third.
    """

    name = "causal_graph"
    story = "Quantities A, B and C may cause each other; hold one, or none, to see the rest."
    knobs = tuple(Knob(name, 0.0, 9.0) for name in VARIABLES)
    outputs = tuple(Output(name, scale=10.0) for name in VARIABLES)
    budget = 5

    def hidden(self, rng: np.random.Generator) -> Hidden:
        hidden = {f"base{i}": float(rng.integers(1, 10)) for i in range(3)}
        order = [int(i) for i in rng.permutation(3)]
        hidden |= {f"place{i}": float(order.index(i)) for i in range(3)}
        weights = [float(rng.choice([-2, -1, 1, 2])) for _ in range(3)]
        # Two of the three possible edges or all: with fewer there is little to find.
        kept = [True] * 3
        absent = int(rng.integers(0, 4))
        if absent < 3:
            kept[absent] = False
        links = ((order[0], order[1]), (order[1], order[2]), (order[0], order[2]))
        for (cause, effect), weight, keep in zip(links, weights, kept, strict=True):
            if keep:
                hidden[f"edge{cause}{effect}"] = weight
        return hidden

    def truth(self, hidden: Hidden, setting: Setting) -> tuple[float, ...]:
        values = [0.0, 0.0, 0.0]
        for i in sorted(range(3), key=lambda i: hidden[f"place{i}"]):
            held = setting.get(VARIABLES[i])
            causes = sum(hidden.get(f"edge{j}{i}", 0.0) * values[j] for j in range(3))
            values[i] = hidden[f"base{i}"] + causes if held is None else held
        return tuple(values)

    def sigma(self, loud: bool) -> float:
        """Standard deviation of a reading, in the quantities' own unit."""
        return 0.1 if loud else 0.05

    def noise(self, loud: bool) -> str:
        return f"noise {self.sigma(loud):g}"

    def read(
        self, hidden: Hidden, setting: Setting, loud: bool, rng: np.random.Generator
    ) -> tuple[float, ...]:
        truth = self.truth(hidden, setting)
        noise = self.sigma(loud) * rng.standard_normal(3)
        return tuple(
            value if name in setting else value + float(error)
            for name, value, error in zip(VARIABLES, truth, noise, strict=True)
        )

    def refuse(self, setting: Setting, questions: list[Question]) -> str:
        if any(name not in VARIABLES for name in setting):
            return "only A, B and C can be held"
        if len(setting) > 1:
            return "hold one quantity at a time, or none"
        if any(not 0 <= value <= 9 for value in setting.values()):
            return "values go from 0 to 9"
        return ""

    def given(self, rng: np.random.Generator, hidden: Hidden) -> tuple[list[Setting], Question]:
        cause, effect = (int(i) for i in rng.permutation(3)[:2])
        # A second draw where the first has no effect: such worlds are met, but seldom.
        low, high = (self.truth(hidden, {VARIABLES[cause]: value})[effect] for value in (0, 1))
        if low == high:
            cause, effect = (int(i) for i in rng.permutation(3)[:2])
        start = int(rng.integers(0, 4))
        step = int(rng.integers(1, 3))
        held = [float(start + step * i) for i in range(4)]
        told = [{VARIABLES[cause]: value} for value in held[:3]]
        return list(told), Question({VARIABLES[cause]: held[3]}, effect)

    def held_out(self, rng: np.random.Generator, hidden: Hidden) -> list[Question]:
        questions = []
        for shown in (int(i) for i in rng.permutation(3)[:2]):
            held = [VARIABLES[i] for i in range(3) if i != shown]
            setting = {name: float(rng.integers(0, 10)) for name in held}
            questions.append(Question(setting, shown))
        return questions


class BiasedProcess(Law):
    """A machine whose share of successes rises or falls evenly with a dial: p = a + b·dial.

    A reading counts the successes of one run of trials, so its noise is binomial.
    """

    name = "biased_process"
    story = "A machine succeeds by chance; its bias changes evenly with a dial."
    knobs = (Knob("dial", 0.0, 6.0),)
    outputs = (Output("share", scale=0.8),)

    def hidden(self, rng: np.random.Generator) -> Hidden:
        left, right = rng.uniform(0.05, 0.95, size=2)
        while abs(left - right) < 0.4:
            left, right = rng.uniform(0.05, 0.95, size=2)
        return {"left": float(left), "right": float(right)}

    def truth(self, hidden: Hidden, setting: Setting) -> tuple[float, ...]:
        return (hidden["left"] + (hidden["right"] - hidden["left"]) * setting["dial"] / 10,)

    def trials(self, loud: bool) -> int:
        return 2_000 if loud else 5_000

    def sigma(self, loud: bool) -> float:
        """Largest standard deviation of a reading's share."""
        return 0.5 / math.sqrt(self.trials(loud))

    def noise(self, loud: bool) -> str:
        return f"{self.trials(loud)} trials each"

    def read(
        self, hidden: Hidden, setting: Setting, loud: bool, rng: np.random.Generator
    ) -> tuple[float, ...]:
        (share,) = self.truth(hidden, setting)
        return (float(rng.binomial(self.trials(loud), share)) / self.trials(loud),)

    def given(self, rng: np.random.Generator, hidden: Hidden) -> tuple[list[Setting], Question]:
        start = grid(rng, 0.0, 2.5, 0.25)
        step = grid(rng, 1.5, 2.5, 0.25)
        dials = [round(start + step * i, 3) for i in range(4)]
        return [{"dial": value} for value in dials[:3]], Question({"dial": dials[3]})

    def held_out(self, rng: np.random.Generator, hidden: Hidden) -> list[Question]:
        return [Question({"dial": value}) for value in two_apart(rng, 7.0, 10.0, 0.1)]
