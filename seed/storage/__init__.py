"""What survives a pulled plug."""
from seed.storage.run_dir import RunDir

__all__ = ["RunDir"]
