"""Turing machines: the task, the machines and their simulator."""

from peftlab.tasks.turing_machine.task import TuringMachine

__all__ = ["TuringMachine"]
