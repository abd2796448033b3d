"""Everything that is known of one run, read from its folder. What is not there is empty, and the page says so."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ws import behaviors
from ws.calibrate import Calibration
from ws.direction import Direction
from ws.direction import load as load_direction
from ws.errors import BadFile
from ws.eval import shown, tables
from ws.methods import as_method
from ws.pairs import Pairs
from ws.records import Record, read, refuse_damaged
from ws.replicate import band, samples
from ws.results.measured import Measured, measured
from ws.results.sentences import SMOKE, side_of
from ws.study.card import DIRECTION
from ws.study.runs import behavior_of
from ws.study.stages import pairs_of, strengths_in
from ws.types import Fields, Json


@dataclass(frozen=True, eq=False)
class Study:
    """A run, with what was made of it."""

    folder: Path

    @property
    def out(self) -> Path:
        """The output folder it lies in."""
        return self.folder.parents[2]

    @cached_property
    def train(self) -> Json:
        """The manifest of its training."""
        manifest = read(self.folder / "train")
        assert manifest is not None
        return manifest

    @cached_property
    def behavior(self) -> str:
        return behavior_of(self.folder)

    @property
    def title(self) -> str:
        settings, model = self.train["settings"], self.train["base"]["id"]
        return f"{self.behavior}: {settings['adapter']} on {model}, seed {settings['seed']}"

    @property
    def tiny(self) -> bool:
        """Whether its model is the embedded one."""
        return self.train["base"]["id"] == "tiny"

    @cached_property
    def intent(self) -> Mapping[str, int]:
        """The claims of the behavior, metric to side; empty where it does not ship with ws."""
        known = self.behavior in behaviors.names()
        return behaviors.load_behavior(self.behavior, tiny=self.tiny).intent if known else {}

    @cached_property
    def poles(self) -> tuple[str, str]:
        """What alpha above 0 does in a few words, and what alpha below 0 does."""
        if tasks := self.train.get("tasks"):
            return f"more of what {tasks[0]['name']} teaches", f"less of what {tasks[0]['name']} teaches"
        if self.behavior in behaviors.names():
            return behaviors.load_behavior(self.behavior, tiny=self.tiny).poles
        return "more like the pos answers", "more like the neg answers"

    # ---------------------------------------------------------------- stages

    @cached_property
    def pairs(self) -> Pairs | str:
        """The pairs it was trained on; where they are not there, why."""
        try:
            return pairs_of(self.train, self.out).pairs
        except BadFile as e:
            return str(e)

    @cached_property
    def direction(self) -> Direction | None:
        """Its direction, where it was taken."""
        files = [self.folder / "direction" / DIRECTION, *sorted(self.folder.glob(f"direction-*/{DIRECTION}"))]
        there = [f for f in files if f.is_file()]
        return load_direction(there[0]) if there else None

    @cached_property
    def evaluations(self) -> list[Measured]:
        """Everything that was measured of it, oldest first."""
        return [m for m in measured([self.folder]) if any(m.alphas)]

    @cached_property
    def dialed(self) -> list[Measured]:
        """Of each protocol the measurement whose strengths are drawn: on its own model, of all units before some, of the most
        strengths, the latest."""
        by_protocol: dict[str, list[Measured]] = {}
        for m in self.evaluations:
            by_protocol.setdefault(m.protocol.id, []).append(m)
        own = self.train["inputs"].get("weights")

        def rank(m: Measured) -> tuple:
            return (m.weights == own, not m.smoke, len(m.alphas), m.manifest["finished"])

        return [max(each, key=rank) for each in by_protocol.values()]

    @cached_property
    def rows(self) -> list[Json]:
        """A line per metric and strength, as `ws eval` prints them."""
        return [r for m in self.dialed for r in tables(m.rows)]

    @property
    def shown(self) -> list[Fields]:
        """The lines that a terminal shows."""
        return list(shown(self.rows, self.intent))

    @cached_property
    def headline(self) -> list[Json]:
        """The lines that the behavior makes a claim about, in its order, held-out pairs last; all that are shown where it
        makes none."""
        order = [m for m, side in self.intent.items() if side]
        claimed = [r for r in self.rows if side_of(r["metric"], self.intent)]
        claimed.sort(key=lambda r: order.index(r["metric"]) if r["metric"] in order else len(order))
        return claimed or [dict(r) for r in self.shown]

    @cached_property
    def legend(self) -> dict[str, str]:
        """Metric to what a larger number means."""
        return {metric: text for m in self.dialed for metric, text in m.protocol.legend.items()}

    @cached_property
    def samples(self) -> list[Json]:
        """Held-out questions with their answers along the dial."""
        return self._latest("samples", samples.FILE)

    @cached_property
    def random(self) -> list[Json]:
        """What random directions of the same norm change, by metric."""
        return self._latest("random", band.FILE)

    @cached_property
    def searches(self) -> list[Calibration]:
        """The searches for strengths of its direction on its own model, oldest first."""
        if self.direction is None:
            return []
        own = {"method": as_method(self.direction).content_hash, "weights": self.train["inputs"].get("weights")}
        found = [(f, m) for f in self.out.glob("calibrate/*/*/*") if (m := read(f)) is not None]
        there = [(f, m) for f, m in found if all(m["inputs"].get(k) == v for k, v in own.items())]
        records = [Record(f, m, reused=True) for f, m in sorted(there, key=lambda x: (x[1]["finished"], x[0]))]
        return [strengths_in(r) for r in records]

    def _latest(self, stage: str, file: str) -> list[Json]:
        """What the newest of some stages holds; nothing where there is none."""
        there = [(m["finished"], f) for f in self.folder.glob(f"{stage}/[!.]*") if (m := read(f)) is not None]
        if not there:
            return []
        place = max(there)[1]
        refuse_damaged(place, read(place) or {})
        return json.loads((place / file).read_text())

    @property
    def smoke(self) -> list[str]:
        """A sentence where not all units of an evaluation were scored."""
        return [SMOKE] if any(m.smoke for m in self.dialed) else []
