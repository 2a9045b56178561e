"""A finished run with the settings that stand in its records, whatever the parameter files say now.

Imports neither torch nor timm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from wsss.errors import ConfigError, MissingError, StaleError
from wsss.progress import log
from wsss.runs.record import Record, read_record
from wsss.runs.run import Run, stage_kind
from wsss.runs.sources import artifact
from wsss.runs.staleness import changes
from wsss.settings import EvaluationParams
from wsss.settings.base import RawSettings, merge
from wsss.settings.resolve import RunSettings, describe_problems, resolve_settings

LISTED = 6  # keys named in one message
# The place in the settings of a run that the record of a stage holds, in the order of merging.
PLACES: dict[str, tuple[str, ...]] = {
    "cam": ("cam",),
    "boxes": ("boxes",),
    "decode": ("decode",),
    "affinity": ("affinity",),
    "confident": ("affinity", "confident"),
    "walk": ("walk",),
    "pseudo": ("pseudo",),
    "segmenter": ("segmenter",),
    "masks": ("segmenter", "test"),
}


class RecordedRun(Run):
    """A run whose settings are those of its records; stages without a record have the present ones."""

    @cached_property
    def shared(self) -> frozenset[str]:
        """The stages whose files it has read from its base's folder, and all before them.

        As long as it has no files of its own, those that the present settings share.
        """
        present = Run(self.params, self.dataset, self.method, self.protocol, self.seed, self.root)
        if self.base == self.method:
            return present.shared
        records = [_record(self.folder / f"{stage}.json") for stage in present.stages()]
        read = {self.root / name for record in records if record for name in record.inputs}
        if not read:
            return present.shared
        stages = present.computed
        places = [n for n, stage in enumerate(stages, 1) if artifact(self.base_run, stage) in read]
        return frozenset(stages[: max(places, default=0)])

    @cached_property
    def settings(self) -> RunSettings:
        """The settings of this run when its stages ran."""
        present = resolve_settings(self.params, self.dataset, self.method, self.protocol)
        dump = present.model_dump(mode="json")
        recorded: RawSettings = merge(dump, _recorded(self))
        try:
            networks = {
                name: {**values, "hyper_parameters": self._hyper_parameters(name, values)}
                for name, values in recorded["networks"].items()
            }
            return RunSettings.model_validate({**recorded, "networks": networks})
        except ValidationError as error:
            problems = "; ".join(describe_problems(error, RunSettings))
            raise StaleError(
                f"The records in {self.folder} are of another version of wsss: {problems}. Run "
                "`snakemake` again; it remakes what differs."
            ) from None

    def _hyper_parameters(self, name: str, values: RawSettings) -> object:
        return self.spec.networks[name].model.model_validate(values["hyper_parameters"])


def recorded_run(run: Run, needed: Sequence[str] = (), fills_gaps: bool = True) -> RecordedRun:
    """Return a run with the settings of its records; a line says which of the present ones differ.

    needed: stages whose settings are used. fills_gaps: the present settings stand in for missing
    records of these stages; otherwise such records are an error.

    Raises:
        ConfigError: the run has no segmenter.
        MissingError: with the settings that no record holds.
        StaleError: a record has settings that this version does not know.
    """
    if run.brought and "segmenter" in needed and "segmenter" not in run.stages():
        raise ConfigError(f"{run} has no segmenter: its masks are imported. Name another run.")
    if not fills_gaps:
        check_records(run, needed)
    recorded = RecordedRun(run.params, run.dataset, run.method, run.protocol, run.seed, run.root)
    was, now = recorded.settings.model_dump(mode="json"), run.settings.model_dump(mode="json")
    differing = [
        f"{key} {before} (not {present})"
        for key, before, present in changes(was, now)
        if not key.endswith(".preset")
    ]
    if differing:
        more = f" and {len(differing) - LISTED} more" if len(differing) > LISTED else ""
        shown = ", ".join(differing[:LISTED])
        log.warning("%s has the settings of its records: %s%s", run, shown, more)
    return recorded


def check_records(run: Run, stages: Sequence[str]) -> None:
    """Raise a `MissingError` that names the stages without a record, if there are any."""
    missing = [stage for stage in stages if not run.path(f"{stage}.json").is_file()]
    if missing:
        raise MissingError(_absence(run, missing))


def _absence(run: Run, stages: Sequence[str]) -> str:
    """Return the message on stages without a record; it names networks that are absent themselves."""
    records = [run.path(f"{stage}.json") for stage in stages]
    files = [artifact(run, stage) for stage in stages]
    networks = [path for path in files if path.suffix == ".safetensors" and not path.is_file()]
    advice = f"Run `snakemake --cores 1 {' '.join(map(str, records))}`"
    if networks:
        return f"{_are(networks)} missing. {advice}."
    keys = ", ".join(".".join(_place(run, stage)) for stage in stages)
    return (
        f"{_are(records)} missing, so no record has the settings {keys} of {run}. {advice}, or name "
        "the parameter files with --params."
    )


def _are(paths: Sequence[Path]) -> str:
    return f"{' and '.join(map(str, paths))} {'is' if len(paths) == 1 else 'are'}"


def _place(run: Run, stage: str) -> tuple[str, ...]:
    """Return the keys that lead to the settings of a stage."""
    return ("networks", stage) if stage in run.spec.networks else PLACES[stage_kind(stage)]


def _recorded(run: Run) -> RawSettings:
    """Return the settings in the records of a run, as changes to the present ones."""
    settings: RawSettings = {}
    stages = [*run.spec.networks, *PLACES]
    for stage in (stage for stage in stages if not run.is_brought(stage)):
        record = _record(run.path(f"{stage}.json"))
        if record:
            settings = merge(settings, _nested(_place(run, stage), record.params))
    for what in ("seed", "decode", "walk", "pseudo", "segmentation"):
        record = _record(run.path(f"eval/{what}.json"))
        if record:
            settings = merge(settings, {"evaluation": dict(_evaluation(what, record.params))})
    return settings


def _record(path: Path) -> Record | None:
    return read_record(path, Record) if path.is_file() else None


def _nested(place: Sequence[str], value: object) -> RawSettings:
    for key in reversed(place):
        value = {key: value}
    return dict(value)  # type: ignore[call-overload,no-any-return]  # a mapping: place has keys


def _evaluation(what: str, params: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the keys of `evaluation` that the record of an evaluation holds, with their values."""
    for key in EvaluationParams.model_fields:
        if key in params:
            yield key, params[key]
    if what == "seed" and "threshold" in params:
        yield "seed_threshold", params["threshold"]
