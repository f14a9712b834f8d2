"""The environments: one batched core and thin views of it."""
