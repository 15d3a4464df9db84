"""The schema of a bundle's metadata.json; it stands in verify.py of a web server as well."""

from __future__ import annotations

TEXT, VERSION = {"type": "string", "minLength": 1}, {"type": "string", "pattern": r"^\d+(\.\d+)+"}
TENSORS = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "type": "object",
        "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
        "properties": {
            "type": TEXT,
            "format": TEXT,
            "num_channels": {"type": "integer", "minimum": 1},
            "spatial_shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
            "dtype": TEXT,
            "value_range": {"type": "array"},
            "channel_def": {"type": "object"},
        },
    },
}
# What MONAI's metadata schema of 2024-07-25 asks for, and what these bundles promise beyond it.
SCHEMA = {
    "type": "object",
    "required": [
        *("schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "task", "description"),
        *("required_packages_version", "authors", "copyright", "intended_use", "network_data_format"),
    ],
    "properties": {
        "schema": {"type": "string", "pattern": r"^https://.*meta_schema_20240725\.json$"},
        "version": {"type": "string", "pattern": r"^\d\.\d\.\d$"},
        "changelog": {"type": "object", "additionalProperties": TEXT},
        **dict.fromkeys(("monai_version", "pytorch_version", "numpy_version"), VERSION),
        "required_packages_version": {"type": "object", "additionalProperties": VERSION},
        "supported_apps": {"type": "object"},
        **dict.fromkeys(("task", "description", "authors", "copyright", "intended_use"), TEXT),
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {"inputs": TENSORS, "outputs": TENSORS},
        },
    },
}
