"""What may be trained on, and who may succeed.

`from supervisor import Gate` is all that a team with a training loop of its own needs.
"""

from supervisor.gate import Gate

__all__ = ["Gate"]
