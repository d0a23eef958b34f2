"""One sheet of the dashboard with the recorded run of each shipped profile, sent through a whole `quietbeam up`."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

import yaml
from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright

from quietbeam.app.demo import demo_config, forget_facility, services
from quietbeam.core.settings import load_settings

from .browser import close, open_page, wait

RECORDINGS = Path(__file__).parents[2] / "tests" / "fixtures" / "recordings"
PROFILES = ("srx", "hxn", "aps-2ide", "id16a", "ophyd-async")
SIZE = (960, 620)
PATIENCE_S = 600


def main(images: Path) -> None:
    """Send the runs, take the pictures, lay them on one sheet."""
    forget_facility()
    with tempfile.TemporaryDirectory(prefix="qb-profiles-") as folder, sync_playwright() as playwright:
        config = demo_config(Path(folder))
        values = yaml.safe_load(config.read_text())
        values["ingest"] |= {"profiles": list(PROFILES), "data_roots": [str(RECORDINGS.resolve())]}
        values["denoise"] = {"final_budget": 5}
        config.write_text(yaml.safe_dump(values))
        settings = load_settings(config)
        with services(settings, config, timeout_s=PATIENCE_S):
            uids = {}
            for name in PROFILES:
                command = [sys.executable, "-m", "quietbeam", "replay", str(RECORDINGS / f"{name}.jsonl.gz")]
                command += ["-c", str(config), "--speed", "0", "--files", str(RECORDINGS.resolve())]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                uids[name] = re.findall(r"run ([0-9a-f-]{36})", said)[0]
            page = open_page(playwright, SIZE)
            sheet = Image.new("RGB", (2 * SIZE[0], 3 * (SIZE[1] + 26)), "white")
            pen = ImageDraw.Draw(sheet)
            for number, (name, uid) in enumerate(uids.items()):
                page.goto(f"http://127.0.0.1:{settings.serve.port}/?api_key={settings.serve_api_key()}&run={uid}")
                ready = f"window.quietbeam?.run?.uid === '{uid}' && quietbeam.run.denoise.state === 'final'"
                wait(page, ready, f"the final maps of {name}", PATIENCE_S)
                page.wait_for_timeout(1500)
                row, col = divmod(number, 2)
                at = col * SIZE[0], row * (SIZE[1] + 26)
                pen.text((at[0] + 8, at[1] + 6), f"profile {name}", fill="black", font_size=16)
                sheet.paste(Image.open(BytesIO(page.screenshot())), (at[0], at[1] + 26))
            close(page)
            sheet.save(images / "profiles-live.png", optimize=True)
