"""What readers and writers of our ONNX files agree on."""

from typing import Final

SCHEMA: Final = "dqmq-onnx/1"
DYNAMIC_SCHEMA: Final = "dqmq-onnx-dynamic/1"
FOLDER_SCHEMA: Final = "dqmq-onnx-folder/1"
MANIFEST: Final = "manifest.json"

IMAGES: Final = "images"
LOGITS: Final = "logits"
CHOICE: Final = "assignment"
"""What a controller's graph gives: the number of an assignment for each image."""
BUDGET: Final = "budget"
"""What the graph of a policy that was trained for many budgets takes beside images, shape (1,)."""
BITS: Final = "bits"
"""What the graph of a policy gives: the weight bits of each layer, shape (layers,)."""
COST: Final = "cost"
"""What the graph of a policy gives: the cost of each image, shape (1,)."""

PREFIX: Final = "dqmq."
"""Before the name of each entry of a file's metadata."""
