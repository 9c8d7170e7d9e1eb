"""What a run decides before its first step, kept so that nothing is measured or chosen again when it goes on."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from huiyan import __version__
from huiyan.core.devices import describe_machine
from huiyan.core.errors import ArtifactError, ConfigError
from huiyan.core.files import write_json
from huiyan.core.json_files import read_object

FILE = "start.json"
_OR_AGAIN = "or start again with --overwrite."


@dataclass(frozen=True, kw_only=True)
class Start:
    """The beginning of a run, the same for all its parts.

    Args:
        identity: what the run belongs to: its options, the data's fingerprint, the model's name.
        precision: what it computes in.
        total_steps: how many steps it has.
        device: kind of device: cpu, cuda, mps.
        threads: that a CPU computes with; sums are added in another order with another number of them.
        processor: its name.
        torch_version: torch's.
        huiyan_version: ours; empty in a run that was begun before it was kept. The kernel of each call follows by rule
            from this version, the device and the shapes.
    """

    identity: dict[str, str]
    precision: str
    total_steps: int
    device: str
    threads: int
    processor: str
    torch_version: str
    huiyan_version: str = ""

    @classmethod
    def here(cls, device: torch.device, *, identity: dict[str, str], precision: str, total_steps: int) -> "Start":
        """That of a run which begins in this process."""
        return cls(
            identity=identity,
            precision=precision,
            total_steps=total_steps,
            device=device.type,
            threads=torch.get_num_threads(),
            processor=describe_machine(device)["processor"],
            torch_version=torch.__version__,
            huiyan_version=__version__,
        )

    def write(self, folder: Path) -> None:
        """Keep it in the folder of the checkpoints."""
        write_json(folder / FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Start | None":
        """What was kept there; None when nothing was.

        Raises:
            ArtifactError: the file is damaged.
        """
        path, hint = folder / FILE, "Start again with --overwrite."
        if not path.exists():
            return None
        try:
            return cls(**read_object(path, ArtifactError, hint=hint))
        except TypeError as error:
            raise ArtifactError(f"{path} is of another version of Huiyan: {error}.", hint=hint) from error

    def check(self, identity: dict[str, str], device: torch.device) -> list[str]:
        """Check that a run with this identity on this device can go on with it.

        Returns:
            Remarks on what may keep the rest from being what it would have been, bit for bit.
        Raises:
            ConfigError: options, data, model, kind of device or number of threads are others.
        """
        for key, value in identity.items():
            if self.identity.get(key) != value:
                raise ConfigError(
                    f"This run was started with {key} = {self.identity.get(key)}, and now has {value}.",
                    hint=f"Use the same options and data to --resume, {_OR_AGAIN}",
                )
        if self.device != device.type:
            raise ConfigError(
                f"This run was started on the device {self.device}, and now has {device.type}.",
                hint=f"Go on where there is such a device, {_OR_AGAIN}",
            )
        threads = torch.get_num_threads()
        if device.type == "cpu" and self.threads != threads:
            raise ConfigError(
                f"This run was started with {_threads(self.threads)}, and now has {threads}: the rest would not be "
                "what it would have been.",
                hint=f"Set OMP_NUM_THREADS={self.threads} to --resume, {_OR_AGAIN}",
            )
        changed = [
            ("processor", self.processor, describe_machine(device)["processor"], " in the last bits"),
            ("torch", self.torch_version, torch.__version__, " in the last bits"),
            ("Huiyan", self.huiyan_version or __version__, __version__, ""),
        ]
        return [
            f"the run was started with the {what} {before}, and now has {now}: the rest may differ{how_far} from what "
            "it would have been"
            for what, before, now, how_far in changed
            if before != now
        ]


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
