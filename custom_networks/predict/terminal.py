"""What ``predict`` says while it works: lines for people, or one JSON object per line for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_networks.workflow.report.volumes import say

UP_TO_DATE = "up to date, neither image nor network nor options have changed; --overwrite does it again"


class Lines:
    """Say what became of each image, and at the end which could not be segmented.

    Args:
        as_json: whether to print JSON objects.
        strict: whether warnings count as errors.
    """

    def __init__(self, as_json: bool, strict: bool) -> None:
        self.as_json, self.strict = as_json, strict
        self.failed: list[tuple[str, str]] = []
        self.tables = ""
        self.counts: Counter[str] = Counter()

    @property
    def shown(self) -> int:
        """How many images have a result."""
        return self.counts["written"] + self.counts["skipped"]

    def show(self, record: Mapping[str, Any], status: str, result: Path, number: int, of: int) -> None:
        """Say what an image has given.

        Args:
            record: its record.
            status: "written" or "skipped".
            result: the folder of the results.
            number: which image it is, from 1.
            of: how many there are.
        """
        self.counts[status] += 1
        if self.strict and record["warnings"]:
            count = len(record["warnings"])
            self.failed.append((record["case"], f"{count} warning{'s' * (count > 1)}, which --strict counts as errors"))
        if self.as_json:
            self._object(event="image", status=status, number=number, of=of, **record)
            return
        seconds = ", ".join(f"{stage} {spent:.2f} s" for stage, spent in record["seconds"].items())
        how = f"({seconds})" if status == "written" else f"({UP_TO_DATE})"
        kind = ", taken for a whole head," if "head" in record else ""
        self._text(f"[{number}/{of}] {record['case']}{kind}: {result / record['mask']} {how}".replace(",:", ":"))
        for line in say(record):
            self._text(f"    {line}")

    def fail(self, name: str, why: str, number: int, of: int) -> None:
        """Say that an image, or an input, gives no result.

        Args:
            name: the image or the input.
            why: the reason, a sentence.
            number: which image or input it is, from 1.
            of: how many there are.
        """
        self.counts["failed"] += 1
        self.failed.append((name, why))
        if self.as_json:
            self._object(event="image", status="failed", number=number, of=of, case=name, error=why)
        elif of > 1:
            self._text(f"[{number}/{of}] {name}: failed: {why}")

    def fail_tables(self, name: str, why: str) -> None:
        """Note that a file of all images cannot be written, which is said at the end.

        Args:
            name: the file.
            why: the reason, a sentence.
        """
        self.tables = f"{name} is not written: {why}"

    def say_page(self, page: Path) -> None:
        """Say where the page is.

        Args:
            page: its file.
        """
        if self.as_json:
            self._object(event="report", file=str(page))
        else:
            self._text(f"a page to look at: {page}")

    def end(self, result: Path) -> None:
        """Say how many images have a result, and which have none.

        Args:
            result: the folder of the results.

        Raises:
            ValueError: if one has none, or, where warnings count as errors, has any, or a file of all is not written.
        """
        written, skipped = self.counts["written"], self.counts["skipped"]
        if self.as_json:
            failed: list[dict[str, str | None]] = [{"case": name, "error": why} for name, why in self.failed]
            failed += [{"case": None, "error": self.tables}] * bool(self.tables)
            self._object(event="end", result=str(result), written=written, skipped=skipped, failed=failed)
        elif self.shown:
            done = f"{written} segmented" + f", {skipped} up to date" * bool(skipped)
            self._text(done if self.tables else f"{done}; volumes of all in {result / 'volumes.csv'}")
        elif not self.failed:
            self._text("no image is in this share; give fewer shards than images")
        if not self.failed:
            if self.tables:
                raise ValueError(self.tables)
            return
        if not self.as_json and len(self.failed) + self.shown > 1:
            width = max(len(name) for name, _ in self.failed)
            self._text(
                "\n".join(["without a good result:", *(f"  {name:{width}}  {why}" for name, why in self.failed)])
            )
        if len(self.failed) == 1 and not self.shown:
            raise ValueError(f"{self.failed[0][0]}: {self.failed[0][1]}")
        count = f"{len(self.failed)} of {self.shown + self.counts['failed']} images without a good result"
        raise ValueError(f"{count}, and {self.tables}" if self.tables else count)

    def _text(self, line: str) -> None:
        print(f"{line}\n", end="", flush=True)  # at once: several processes of torchrun, unbuffered, share the output

    def _object(self, **content: Any) -> None:
        print(f"{json.dumps(content)}\n", end="", flush=True)
