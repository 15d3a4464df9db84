"""What the README of a segmentation bundle says about whole heads."""

from __future__ import annotations

from custom_networks.workflow.locate.head_labels import head_label_names
from tools.recipes.bundle import Bundle

TEXT = """\
## Whole heads

`python -m custom_networks predict` takes a T1 of a whole head as well, and so does `configs/inference_head.json`:

```bash
python -m monai.bundle run --config_file configs/inference_head.json --dataset_dir <heads> --output_dir <folder>
```

A template brain is registered with the head (SimpleITK), a crop of {size} mm of the template around each of {places} is
cut out in its axes, and the classes come back on the head's own grid: {labels}. What is no head is refused, a
registration that fits poorly gets a warning. `places` says where to look, `start_points` gives the centres by hand.

"""


def describe_whole_heads(bundle: Bundle) -> str:
    """Return a section, nothing for a bundle that does not say where to look in a head.

    Args:
        bundle: the specification.
    """
    if not bundle.places:
        return ""
    names = head_label_names(bundle.places, bundle.knobs["label_names"])
    return TEXT.format(
        size=" x ".join(f"{mm:g}" for mm in bundle.knobs["crop_size"]),
        places=" and ".join(place["name"] for place in bundle.places),
        labels=", ".join(f"{value} {name}" for value, name in enumerate(names)),
    )
