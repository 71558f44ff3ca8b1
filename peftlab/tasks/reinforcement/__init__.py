"""Reinforcement: a model learns from rewards for what it writes itself."""

from peftlab.tasks.reinforcement.machines import TuringMachineReinforcement
from peftlab.tasks.reinforcement.prompts import Reinforcement

__all__ = ["Reinforcement", "TuringMachineReinforcement"]
