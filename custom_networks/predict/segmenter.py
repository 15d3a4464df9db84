"""The bundle's ``inference.json`` for one image at a time: its transforms, its network, its evaluator."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ignite.engine import Events
from monai.data import list_data_collate
from monai.engines.utils import engine_apply_transform

from custom_networks.predict.commands import CROP, HEAD
from custom_networks.predict.ensemble import EnsembleInferer
from custom_networks.predict.members import Member
from custom_networks.workflow.data.cases import files_of
from custom_networks.workflow.data.image_checks import channel_problems, check_image
from custom_networks.workflow.data.volumes import NOTES, read_grid
from custom_networks.workflow.infer.inferers import network_dtype
from custom_networks.workflow.infer.masks import SaveMasksd
from custom_networks.workflow.report.image_facts import image_facts

if TYPE_CHECKING:
    from monai.bundle import ConfigParser
    from torch import nn

READER = "preprocessing#transforms#0#reader"
INVERSION = "Invertd"


@dataclass
class Read:
    """An image as the network gets it, and what was seen of it before.

    Args:
        batch: what the bundle's data loader gives the evaluator.
        shape: voxels per axis of the file.
        affine: its voxels to mm, RAS.
        notes: what its header leaves open.
        facts: what :func:`custom_networks.workflow.report.image_facts.image_facts` says of its intensities.
    """

    batch: dict[str, Any]
    shape: tuple[int, ...]
    affine: np.ndarray
    notes: list[str]
    facts: dict[str, Any]


class Segmenter:
    """What ``inference.json`` describes, built once and run for every image.

    The transforms, the inferer, the network and the evaluator are the config's own. Reading, the network and writing
    are apart, so that they can run at the same time for different images.

    Args:
        members: the networks.
        overrides: knobs by name, the same for all members.
        keep: whether all members' networks stay in memory.
        way: whether images are crops or heads, :data:`custom_networks.predict.commands.CROP` or ``HEAD``.

    Raises:
        FileNotFoundError: if weights are absent.
        ValueError: if a knob or the weights do not fit.
    """

    def __init__(
        self, members: Sequence[Member], overrides: Mapping[str, Any], keep: bool = True, way: str = CROP
    ) -> None:
        self.members, self.overrides, self.way = list(members), dict(overrides), way
        self.parser = self._build(members[0])
        self.preprocessing = self.parser.get_parsed_content("preprocessing")
        self.postprocessing = self.parser.get_parsed_content("postprocessing")
        self.reader = self.parser.get_parsed_content(READER)
        self.reader.observe = self._observe
        self.seen: dict[tuple[Path, ...], tuple[tuple[int, ...], dict[str, Any], dict[str, Any]]] = {}
        self.evaluator = self.parser.get_parsed_content("evaluator")
        if len(members) > 1:
            if self.parser.get_parsed_content("low_memory", default=False):
                raise ValueError(
                    f"an ensemble needs the probabilities of all {len(members)} networks in memory, which low_memory "
                    "does without; give one network, or more --memory"
                )
            regions = self.parser.get_parsed_content("regions", default=None) is not None
            ensemble = EnsembleInferer(self._loaders(keep), regions)
            if way == HEAD:  # the mean of each crop, before its classes go back to the head
                self.evaluator.inferer.inferer = ensemble
            else:
                self.evaluator.inferer = ensemble
        self.evaluator.logger.setLevel(logging.CRITICAL)  # the error itself is said, once
        self.errors: list[BaseException] = []
        self.evaluator.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: self.errors.append(error))

    @property
    def network(self) -> nn.Module:
        """The network of the first member."""
        return self.parser.get_parsed_content("network")

    def computed(self) -> dict[str, Any]:
        """Return by which engine, in which precision, where and how the first member's network has been computed."""
        get = self.parser.get_parsed_content
        network, device = get("network"), torch.device(get("device"))
        dtype = network_dtype(device, get("amp"), network, get("patch_size"))
        return {
            "engine": getattr(network, "engine", None) or "torch",
            "precision": getattr(network, "precision", None) or str(dtype).removeprefix("torch."),
            "device": str(device),
            "low_memory": self.way == CROP and get("low_memory"),
        }

    def _build(self, member: Member) -> ConfigParser:
        """Return the config of a member whose weights are loaded."""
        parser = member.config(self.overrides, self.way)
        # written apart from the network, so that both can be at work at once
        parser["evaluator#postprocessing"] = None
        parser["evaluator#val_data_loader"] = [None]
        parser.get_parsed_content("initialize")
        return parser

    def _loaders(self, keep: bool) -> list[Any]:
        """Return what gives the inferer and network of each member."""
        first = self.parser

        def load(member: Member, parser: ConfigParser | None) -> tuple[Any, nn.Module]:
            own = self._build(member) if parser is None else parser
            inferer = "crop_inferer" if self.way == HEAD else "inferer"
            return own.get_parsed_content(inferer), own.get_parsed_content("network")

        parsers = [first, *(self._build(member) if keep else None for member in self.members[1:])]
        return [
            lambda member=member, parser=parser: load(member, parser)
            for member, parser in zip(self.members, parsers, strict=True)
        ]

    def read(self, case: Mapping[str, Any]) -> Read:
        """Return an image, read and preprocessed.

        Args:
            case: entry of :func:`custom_networks.workflow.data.inference_list.inference_data_list`.

        Raises:
            FileNotFoundError: if a file is absent.
            ValueError: if it cannot be used, in the sentence of
                :func:`custom_networks.workflow.data.image_checks.check_data`.
        """
        get, files = self.parser.get_parsed_content, files_of(case["image"])
        grid = read_grid(files, get("series"))
        # before all volumes of a series are read
        if problems := channel_problems(grid.channels, grid.shape, get("in_channels")):
            raise ValueError(f"{files[0]} {problems[0]}")
        item = self.preprocessing(dict(case))
        shape, meta, facts = self.seen.pop(tuple(files))
        return Read(list_data_collate([item]), shape, np.array(meta["original_affine"]), list(meta[NOTES]), facts)

    def _observe(self, files: list[Path], voxels: np.ndarray, meta: dict[str, Any]) -> None:
        """Refuse an image that cannot be used before a transform stumbles over it, and note what it is like."""
        check_image(torch.from_numpy(voxels), files, self.parser.get_parsed_content("in_channels"))
        self.seen[tuple(files)] = (voxels.shape[1:], meta, image_facts(voxels, meta["affine"]))

    def forward(self, read: Read) -> tuple[Any, Any, Any]:
        """Run the network on an image and return the evaluator's batch and output of it, and what else was found.

        Args:
            read: the image.

        Raises:
            BaseException: what the evaluator raised.
        """
        self.evaluator.data_loader[0] = read.batch
        self.evaluator.run()
        self.evaluator.data_loader[0] = None
        if self.errors:
            raise self.errors.pop()
        state = self.evaluator.state
        batch, output = state.batch[0], state.output[0]
        state.batch = state.output = None
        return batch, output, getattr(self.evaluator.inferer, "found", None)

    def write(self, result: tuple[Any, Any]) -> tuple[np.ndarray, np.ndarray | None]:
        """Write the mask, by the postprocessing of the config, and return its voxels.

        Args:
            result: batch and output that :meth:`forward` returned.

        Returns:
            The label map ``(*S)`` on the grid of the file, in the values of label files, and, where they were asked
            for, the probabilities ``(K, *S)``, else None.

        Raises:
            ValueError: if a file stands in the place of the mask that this program has not written.
        """
        batch, output = result
        _, output = engine_apply_transform(batch=batch, output=output, transform=self.postprocessing)
        (saver,) = (one for one in self.postprocessing.transforms if isinstance(one, SaveMasksd))
        mask = torch.as_tensor(output["pred"]).cpu().numpy()[0].astype(saver.dtype)
        return mask, output.get("probabilities")
