"""Make pretrained weights: :func:`pretrain`, ``python -m quietbeam_models.pretrain`` or ``quietbeam pretrain``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import structlog
import torch

from quietbeam_models.network import NetworkConfig
from quietbeam_models.patches import PatchConfig
from quietbeam_models.pretrain_config import PretrainConfig
from quietbeam_models.pretraining import Pretraining
from quietbeam_models.weights import DEFAULT, load_weights, save_weights

log = structlog.get_logger()

_SAVE_EVERY_S = 150.0


class Saver(L.Callback):
    """Save a checkpoint every ``every_s`` seconds of training, in one move."""

    def __init__(self, path: Path, every_s: float) -> None:
        self.path, self.every_s, self.last = path, every_s, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: Pretraining, *args: object) -> None:  # type: ignore[override]  # noqa: ARG002
        """Save when it is time."""
        if module.elapsed_s - self.last > self.every_s or trainer.should_stop:
            partial = self.path.with_suffix(".partial")
            trainer.save_checkpoint(partial)
            if trainer.is_global_zero:
                partial.replace(self.path)
            self.last = module.elapsed_s


def machine(device: str) -> str:
    """Return what trains: the GPU's name, or the processor with its threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def export(module: Pretraining, folder: Path, name: str, command: str, parent: str | None = None) -> Path:
    """Write the averaged weights with their card."""
    config = module.config
    card = {
        "parent": parent,
        "command": command,
        "steps": module.steps,
        "minutes": round(module.elapsed_s / 60, 1),
        "seed": config.seed,
        "machine": machine(module.trained_on),
        "torch": torch.__version__,
        "config": {k: v for k, v in dataclasses.asdict(config).items() if k != "network"},
        "curve": [{k: round(v, 4) for k, v in point.items()} for point in module.curve],
    }
    path = save_weights(module.average, folder, name, card)
    stored = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    (folder / f"{name}.md").write_text(
        model_card(stored, sum(p.numel() for p in module.average.parameters())), encoding="utf-8"
    )
    return path


def model_card(card: dict[str, Any], parameters: int) -> str:
    """Return the model card as Markdown, from the JSON beside the weights."""
    curve = card["curve"]
    shown = [p for i, p in enumerate(curve) if i % max(1, len(curve) // 16) == 0 or i == len(curve) - 1]
    doses = [key for key in (shown[0] if shown else {}) if key.startswith("gain_")]
    doses.sort(key=lambda key: float(key[5:]))
    rows = [
        "| step | minutes | " + " | ".join(f"{key[5:]} counts" for key in doses) + " | mean log error |",
        "|" + "---|" * (len(doses) + 3),
    ]
    for point in shown:
        gains = " | ".join(f"{point[key]:.1f}" for key in doses)
        rows.append(f"| {point['step']:.0f} | {point['minutes']:.1f} | {gains} | {point['log_error']:.2f} |")
    config = card["config"]
    return "\n".join(
        [
            f"# {card['name']}",
            "",
            "Denoiser of X-ray fluorescence maps: counts and exposure of the lines of one map in, rates out. Any",
            "number and order of lines, any number of detectors, any size, 0.01 to 1e5 counts per pixel.",
            "",
            f"- Weights: {parameters:,} parameters, float16 safetensors, sha256 `{card['sha256']}`.",
            f"- Network: `{json.dumps(card['network'])}`.",
            f"- Made by: `{card['command']}`, seed {card['seed']}, torch {card['torch']}.",
            f"- Trained {card['steps']} steps in {card['minutes']} minutes on {card['machine']}, batches of "
            f"{config['patches']['pixels']:,} line-pixels.",
            f"- Muon {config['muon_lr']} / AdamW {config['lr']}, weight decay {config['weight_decay']}, "
            f"average over the last {1 / (1 - config['average']):.0f} steps.",
            "- Data: procedural specimens only (cells, grains, particles, fibres, strata, clouds, spots, stars,",
            "  bars, circuits, polygons, rings, boards, dots, tiles, print, flat fields; single hot pixels; line",
            "  correlations from strong to none, over the whole map or a part of it;",
            f"  exposure maps with jitter, drift and gaps). No measured data. Targets: {config['patches']['targets']}.",
            "- Meant for: photon counts of emission lines, or areas brought to effective counts. Its maps are",
            "  published only where held-out photons prove them better than the raw sum.",
            "- Known limits: see docs/notes/science.md.",
            "",
            "Dwell gain on unseen specimens (geometric mean over 32 lines of each dose, flat ones included):",
            "",
            *rows,
            "",
        ]
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Devices to train on.

    Attributes
    ----------
    device
        ``auto``, ``cpu``, ``cuda``, ``mps``.
    devices
        Number of devices, as Lightning takes it.
    strategy
        Lightning's strategy for several devices.
    """

    device: str = "auto"
    devices: int | str = 1
    strategy: str = "auto"

    @property
    def has_gpu(self) -> bool:
        """True when training runs on a CUDA device."""
        return self.device != "cpu" and torch.cuda.is_available()

    @property
    def accelerator(self) -> str:
        """Lightning's name of the device."""
        if self.device == "auto":
            return "auto" if torch.cuda.is_available() else "cpu"
        return {"cuda": "gpu"}.get(self.device, self.device)


def patches_for(hardware: Hardware, **chosen: Any) -> PatchConfig:
    """Return batches, bank and workers that fit the hardware; ``chosen`` fields that are not None win."""
    fields: dict[str, Any] = {}
    if hardware.has_gpu:  # the bank takes 11 GB
        fields = {"pixels": 786_432, "bank": 16_000, "workers": (os.cpu_count() or 2) - 1}
    return PatchConfig(**fields | {name: value for name, value in chosen.items() if value is not None})


def pretrain(
    config: PretrainConfig,
    *,
    work: Path,
    out: Path,
    name: str = DEFAULT,
    hardware: Hardware | None = None,
    validate_every: int = 250,
    command: str = "",
    parent: str | None = None,
) -> Path:
    """Train (or resume from ``work/last.ckpt``) and write the weights with their card to ``out``; return their path.

    Parameters
    ----------
    validate_every
        Steps between two validations.
    command
        What the card names as the command that made the weights.
    parent
        Weights to start from, as :func:`load_weights` takes them; those of a wider network are pruned.

    Raises
    ------
    DamagedWeightsError
        The parent or the teacher is missing or damaged.
    ValueError
        The parent has another plan than the network, or is narrower.
    """
    warnings.filterwarnings("ignore", module="lightning")
    L.seed_everything(config.seed, verbose=False)
    work.mkdir(parents=True, exist_ok=True)
    module, last = Pretraining(config), work / "last.ckpt"
    if parent is not None and not last.exists():
        module.start_from(load_weights(parent).network)
    if config.teacher:
        module.learn_from(load_weights(config.teacher).network)
    hardware = hardware or Hardware()
    trainer = L.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        strategy=hardware.strategy,
        max_steps=-1,
        max_epochs=-1,
        val_check_interval=validate_every,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Saver(last, _SAVE_EVERY_S)],
    )
    trainer.fit(module, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    path = out / f"{name}.safetensors"
    if trainer.is_global_zero:
        export(module, out, name, command, parent)
        log.info("weights_written", path=str(path), steps=module.steps)
    return path


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    defaults = PretrainConfig()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the resumable checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder the weights are written to")
    parser.add_argument("--name", default=DEFAULT)
    parser.add_argument("--minutes", type=float, default=85.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--devices", default="1")
    parser.add_argument("--strategy", default="auto", help="Lightning's, for several devices: ddp, fsdp ...")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--targets", choices=["expectation", "counts"], default="expectation")
    parser.add_argument("--lr", type=float, default=defaults.lr)
    parser.add_argument("--muon-lr", type=float, default=defaults.muon_lr)
    parser.add_argument(
        "--average", type=float, default=defaults.average, help="share that the running average keeps in a step"
    )
    parser.add_argument("--pixels", type=int, default=0, help="line-pixels of a batch; 0: 98,304, on a GPU 786,432")
    parser.add_argument(
        "--workers", type=int, default=-1, help="processes that draw specimens; -1: on a GPU all but one core"
    )
    parser.add_argument("--bank", type=int, default=0, help="specimens in memory; 0: 250, on a GPU 16,000 (11 GB)")
    parser.add_argument("--validate-every", type=int, default=250)
    parser.add_argument(
        "--parent", help="weights to start from: a shipped name or a .safetensors file; a wider network is pruned"
    )
    parser.add_argument("--teacher", default="", help="weights whose maps are mixed into the targets")
    parser.add_argument("--widths", help="channels at 1/2, 1/4, 1/8 and 1/16 resolution, such as 40,64,96,128")
    parser.add_argument("--full-width", type=int, default=defaults.network.full_width)
    parser.add_argument("--mix-dim", type=int, default=defaults.network.mix_dim)
    parser.add_argument("--error-width", type=int, default=defaults.network.error_width)
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    hardware = Hardware(
        device=args.device,
        devices=int(args.devices) if args.devices.isdigit() else args.devices,
        strategy=args.strategy,
    )
    patches = patches_for(
        hardware,
        pixels=args.pixels or None,
        bank=args.bank or None,
        workers=args.workers if args.workers >= 0 else None,
        targets=args.targets,
        seed=args.seed,
    )
    widths = defaults.network.widths if args.widths is None else tuple(int(n) for n in args.widths.split(","))
    network = NetworkConfig(
        widths=widths, full_width=args.full_width, mix_dim=args.mix_dim, error_width=args.error_width
    )
    config = PretrainConfig(
        network=network,
        budget_s=args.minutes * 60,
        teacher=args.teacher,
        seed=args.seed,
        lr=args.lr,
        muon_lr=args.muon_lr,
        average=args.average,
        patches=patches,
    )
    pretrain(
        config,
        work=args.work,
        out=args.out,
        name=args.name,
        hardware=hardware,
        validate_every=args.validate_every,
        command="python -m quietbeam_models.pretrain " + " ".join(argv if argv is not None else sys.argv[1:]),
        parent=args.parent,
    )


if __name__ == "__main__":
    main()
