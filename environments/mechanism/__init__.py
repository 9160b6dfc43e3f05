"""A laboratory with hidden laws: choose interventions, read noisy instruments, predict.

law.py          what every law keeps: knobs, instrument, truth, held-out questions
physics.py      pendulum, spring, lens, circuit
chemistry.py    titration, reaction rate
chance.py       causal graph, biased process
notation.py     how settings, actions and answers are written and read
laboratory.py   the environment: prompts, episodes, verification
"""

from environments.mechanism.laboratory import LAWS, TOLERANCE, Mechanism

__all__ = ["LAWS", "TOLERANCE", "Mechanism"]
