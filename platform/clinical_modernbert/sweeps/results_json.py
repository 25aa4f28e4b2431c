"""The JSON form of a sweep's results: ``report.json``, which is also the artifact's summary, and ``curves.json``.

Both are flat: the fields of ``Comparison`` are keys of the report itself, and those of ``Trained`` are keys of its trial.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.sweeps.board import curve_from_json, curve_to_json
from clinical_modernbert.sweeps.kinds import KINDS
from clinical_modernbert.sweeps.results import (
    ArmCurve,
    Comparison,
    FailedFit,
    Fit,
    SweepReport,
    Trained,
    Trial,
)

JsonObject = dict[str, Any]
"""An object of one of the two files."""

_TRIAL, _TRAINED, _COMPARISON = TypeAdapter(Trial), TypeAdapter(Trained), TypeAdapter(Comparison)
_FIT: TypeAdapter[Fit | FailedFit] = TypeAdapter(Fit | FailedFit)


def report_to_json(report: SweepReport) -> JsonObject:
    """Return the report as ``report.json`` holds it."""
    trials = [_trial_to_json(trial) for trial in report.trials]
    values: JsonObject = {
        "trains": report.trains,
        "metric": report.kind.metric,
        "base": report.base,
        "trials": trials,
        "best": trials[0],
    }
    if report.comparison:
        values |= asdict(report.comparison)
    if report.fit:
        values["fit"] = asdict(report.fit)
    return values


def report_from_json(values: Mapping[str, Any], *, called: str) -> SweepReport:
    """Return the report that ``report_to_json`` wrote; ``ArtifactError`` names ``called`` and the first wrong field."""
    try:
        if values["trains"] not in KINDS:
            raise ArtifactError(f"{called} is not the report of a sweep: trains is {values['trains']!r}")
        return SweepReport(
            trains=str(values["trains"]),
            base=str(values["base"]),
            trials=[_trial_from_json(trial) for trial in values["trials"]],
            comparison=_COMPARISON.validate_python(values) if "arms" in values else None,
            fit=_FIT.validate_python(values["fit"]) if "fit" in values else None,
        )
    except KeyError as error:
        raise ArtifactError(f"{called} is not the report of a sweep: {error} is missing") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{called} is not the report of a sweep: {field}: {first['msg']}") from None


def curves_to_json(curves: Mapping[str, ArmCurve]) -> JsonObject:
    """Return model -> curve as ``curves.json`` holds them."""
    return {model: {"arm": curve.arm, "points": curve_to_json(curve.points)} for model, curve in curves.items()}


def curves_from_json(values: Mapping[str, Any]) -> dict[str, ArmCurve]:
    """Return the curves that ``curves_to_json`` wrote."""
    return {model: ArmCurve(curve["arm"], curve_from_json(curve["points"])) for model, curve in values.items()}


def _trial_to_json(trial: Trial) -> JsonObject:
    values = {field.name: getattr(trial, field.name) for field in fields(trial) if field.name != "trained"}
    return values | (asdict(trial.trained) if trial.trained else {})


def _trial_from_json(values: Mapping[str, Any]) -> Trial:
    trial = _TRIAL.validate_python(values)
    return replace(trial, trained=_TRAINED.validate_python(values)) if "held_out" in values else trial
