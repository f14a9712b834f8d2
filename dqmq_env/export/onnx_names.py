"""What readers and writers of our ONNX files agree on."""

from typing import Final

SCHEMA: Final = "dqmq-onnx/1"
FOLDER_SCHEMA: Final = "dqmq-onnx-folder/1"
MANIFEST: Final = "manifest.json"

IMAGES: Final = "images"
LOGITS: Final = "logits"
CHOICE: Final = "assignment"
"""What a controller's graph gives: the number of an assignment for each image."""

PREFIX: Final = "dqmq."
"""Before the name of each entry of a file's metadata."""
