"""The schedule of a training that has a number of minutes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from custom_networks.adapt.choices import FEWEST_EPOCHS, MOST_EPOCHS, VALIDATIONS
from custom_networks.adapt.draft import Draft, format_sizes, say_schedule
from custom_networks.adapt.pace import Pace, measure

# share of the time that is planned; what is left is for machines that become slower
AIM = 0.98
# share of the time that validations may take, beside the last one
FOR_VALIDATIONS = 0.2
# of so many epochs, one more or less is of no account
MANY_EPOCHS = 50
# a training of fewer steps learns next to nothing: its patch becomes smaller, if it has more than so many voxels
FEWEST_STEPS, LEAST_PATCH = 1000, 32**3
# overlap of the windows where validations with the usual one would take too much of the time
LESS_OVERLAP = 0.25


def schedule_within(minutes: float, pace: Pace, steps: int, most: int = VALIDATIONS) -> tuple[int, int, int]:
    """Return epochs, epochs between two validations, and steps of an epoch.

    The steps stay what they are where that gives 50 to 500 epochs; else they become such that 10 to 500 epochs fill the
    time.

    Args:
        minutes: of the whole training, of which 98 % are planned.
        pace: how long its parts take.
        steps: of an epoch, if nothing speaks against it.
        most: validations that there are at most.

    Raises:
        ValueError: if the time does not suffice for ten epochs of one step.

    Example:
        >>> pace = Pace(start=20, step=0.5, epoch=0.1, validation=10, cases=16)
        >>> schedule_within(10, pace, steps=8), schedule_within(10, pace, steps=400)
        ((114, 12, 8), (10, 1, 93))
    """
    left = AIM * 60 * minutes - pace.start
    validations = max(1, min(most, int(FOR_VALIDATIONS * left / pace.validation)))
    left -= validations * pace.validation
    epochs = int(left / (pace.epoch + steps * pace.step))
    if not MANY_EPOCHS <= epochs <= MOST_EPOCHS:
        wanted = min(max(epochs, FEWEST_EPOCHS), MOST_EPOCHS)
        steps = int((left / wanted - pace.epoch) / pace.step)
        if steps < 1:
            least = (pace.start + pace.validation + FEWEST_EPOCHS * (pace.epoch + pace.step)) / AIM / 60
            raise ValueError(
                f"{minutes:g} minutes do not suffice: the start takes {pace.start:.0f} s, a step {pace.step:.1f} s and "
                f"a validation {pace.validation:.0f} s; give --minutes {math.ceil(least) + 1}"
            )
        epochs = max(wanted, int(left / (pace.epoch + steps * pace.step)))
    return epochs, math.ceil(epochs / validations), steps


def fill_minutes(
    bundle: Path,
    config: Mapping[str, Any],
    profile: dict[str, Any],
    minutes: float,
    draft: Draft,
    *,
    enough: int | None,
    folds: str | None,
    smaller: Callable[[int], Mapping[str, Any]] | None = None,
) -> None:
    """Measure the training of a profile and give it the batch, epochs and validations that fill the time.

    Many cheap steps go further than few dear ones: where ``enough`` says how many steps a training should have, the
    batch is one, unless the time suffices for so many with the batch of the profile. Where it does not suffice for 1000
    steps, the patch becomes smaller in proportion, to some 32 x 32 x 32 voxels, and where a validation takes more than
    a fifth of the time, its windows overlap less; then everything is measured anew.

    Args:
        bundle: the bundle's folder.
        config: its train.json.
        profile: the profile; gets them.
        minutes: of the whole training.
        draft: gets them, too.
        enough: steps that suffice, or ``None`` where the batch stays what it is.
        folds: content of the profile's ``folds_file``, where it has one that is not written yet.
        smaller: returns the entries of the profile for a patch of so many voxels; ``None`` where the patch stays.

    Raises:
        ValueError: if the time does not suffice.
    """
    planned = profile["batch_size"]
    small = planned if enough is None else 1
    pace = measure(bundle, config, {**profile, "batch_size": small}, folds)
    if smaller is not None and _make_cheaper(config, profile, minutes, pace, draft, smaller):
        pace = measure(bundle, config, {**profile, "batch_size": small}, folds)
    if enough is not None and planned > small:
        steps = AIM * 60 * minutes / pace.step
        if steps >= planned * enough:
            small, pace = planned, measure(bundle, config, profile, folds)
        why = f"the time allows some {steps:.0f} steps of one patch, {enough} are enough for more patches"
        draft.say("batch_size", str(small), why)
    usual = math.ceil(pace.cases / small)
    epochs, interval, steps = schedule_within(minutes, pace, profile.get("steps_per_epoch") or usual)
    say_schedule(config, epochs, interval, steps, draft)
    parts = (
        f"the start {pace.start:.0f} s, a step with its loading {pace.step:.2f} s, a validation {pace.validation:.0f} s"
    )
    draft.say("minutes", f"{minutes:g}", f"{epochs * steps} steps; measured here: {parts}")
    draft.profile |= {"batch_size": small, "steps_per_epoch": None if steps == usual else steps}
    profile |= draft.profile


def _make_cheaper(
    config: Mapping[str, Any],
    profile: dict[str, Any],
    minutes: float,
    pace: Pace,
    draft: Draft,
    smaller: Callable[[int], Mapping[str, Any]],
) -> bool:
    """Make the patch smaller, and the overlap of windows, where the time asks for it; return whether it does."""
    patch, time = profile["patch_size"], AIM * 60 * minutes
    voxels, steps = math.prod(patch), (time - pace.start - pace.validation) / pace.step
    wanted = max(LEAST_PATCH, int(voxels * steps / FEWEST_STEPS))
    fewer, dear = steps < FEWEST_STEPS and wanted < voxels, pace.validation > FOR_VALIDATIONS * time
    if fewer:
        profile |= smaller(wanted)
        why = f"the time allows some {max(0, steps):.0f} steps with {format_sizes(patch)}, {FEWEST_STEPS} are wanted"
        draft.say("patch_size", format_sizes(profile["patch_size"]), why)
    if dear and config["overlap"] > LESS_OVERLAP:
        profile["overlap"] = draft.profile["overlap"] = LESS_OVERLAP
        why = f"of windows; with {config['overlap']:g} a validation would take {pace.validation:.0f} s of the time"
        draft.say("overlap", f"{LESS_OVERLAP:g}", why)
    return fewer or "overlap" in profile
