from __future__ import annotations

import random
import re

from pydantic import Field

from peftlab.core.counterfactuals import whole_word
from peftlab.core.perturbation import PERTURBATIONS, Perturbation

PLACES = ("London", "Paris", "Berlin", "Madrid", "Chicago", "Boston", "Dallas", "Denver", "Toronto", "Sydney", "Tokyo")
CITIES = ("北京", "上海", "广州", "深圳", "成都", "杭州", "武汉", "西安", "南京", "重庆")
PERSONS = ("John", "Mary", "Peter", "Anna", "David", "Laura", "James", "Sarah", "Robert", "Emma", "Michael", "Linda")


@PERTURBATIONS.register("entities")
class Entities(Perturbation):
    """Names of well-known cities and usual first names, each for another of its kind."""

    what = "names of cities and persons are others"

    lists: list[list[str]] = Field(
        default_factory=lambda: [list(PLACES), list(PERSONS), list(CITIES)],
        description="Lists of names, of which each may stand for another of its list.",
    )

    def change(self, text: str, generator: random.Random) -> str:
        """Equal names become equal names."""
        for names in self.lists:
            present = [name for name in names if re.search(whole_word(name), text)]
            others = [name for name in names if name not in present]
            if not present or not others:
                continue
            chosen = {name: generator.choice(others) for name in present}
            pattern = "|".join(map(whole_word, present))
            text = re.sub(pattern, lambda match, to=chosen: to[match[0]], text)  # type: ignore[misc]
        return text
