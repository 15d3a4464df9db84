"""Ways to choose the next image."""

from __future__ import annotations

import random
import time
from typing import Any

from monailabel.tasks.activelearning.random import Random


class RandomImage(Random):
    """An image without a label by chance, those that were offered long ago more often.

    Also where each was offered in this very second, in which MONAI Label's own finds nothing to choose from.
    """

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any] | None:
        """Return the image and its weight in seconds, or nothing where every image has a label.

        Args:
            request: the request.
            datastore: where the images are.
        """
        images = datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))
        if not images:
            return None
        infos = [datastore.get_image_info(image).get("strategy", {}) for image in images]
        now = int(time.time())
        weights = [1 + max(0, now - info.get(request["strategy"], {}).get("ts", 0)) for info in infos]
        number = random.choices(range(len(images)), weights=weights)[0]
        return {"id": images[number], "weight": weights[number]}
