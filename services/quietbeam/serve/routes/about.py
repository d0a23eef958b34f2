"""What this service is, and which weights it can start from."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from quietbeam.core.version import __version__
from quietbeam.core.wire import keys
from quietbeam.serve.access import Scope
from quietbeam.serve.answers.about import About, AboutAnswer, Authentication, ModelCard, ModelsAnswer, ModelsMeta
from quietbeam.serve.answers.envelope import NoMeta, Resource
from quietbeam.serve.render.colormaps import SCALES, lookup_tables
from quietbeam.serve.render.formats import MIME
from quietbeam.serve.services import API_VERSION, Shared
from quietbeam.serve.state.maps import KINDS

from .envelope import answer, base
from .requires import requires

router = APIRouter(tags=["about"])


@router.get("/", responses={200: {"model": AboutAnswer}}, dependencies=requires())
def about(request: Request, shared: Shared) -> Response:
    """Versions, formats, kinds of maps, and where to go from here."""
    here = base(request)
    about = About(
        library="quietbeam",
        library_version=__version__,
        api_version=API_VERSION,
        kinds={str(kind): meaning for kind, meaning in KINDS.items()},
        formats=MIME,
        colour_maps=list(lookup_tables()),
        scales=list(SCALES),
        authentication=Authentication(
            required=not shared.settings.serve.anonymous_read, header="Authorization: Apikey KEY"
        ),
    )
    places = {name: f"{here}/{name}" for name in ("runs", "events", "models")}
    links = {"self": f"{here}/", **places, "latest": f"{here}/runs/latest", "documentation": f"{here}/openapi.json"}
    return answer(AboutAnswer(data=about, links=links, meta=NoMeta()))


@router.get("/models", responses={200: {"model": ModelsAnswer}}, dependencies=requires(Scope.READ_METADATA))
def models(request: Request, shared: Shared) -> Response:
    """Pretrained weights that are installed, each with its model card; `meta.chosen` is what the next run takes."""
    cards = read_cards(shared.settings.weights_dir)
    chosen: Any = shared.catalog.query_redis(lambda connection: connection.get(keys.WEIGHTS), None)
    cards_sent = [Resource(id=name, type="model", attributes=ModelCard(**card)) for name, card in cards.items()]
    weights_in_use = (chosen or b"").decode() or shared.settings.denoise.weights or None
    meta = ModelsMeta(count=len(cards), chosen=weights_in_use)
    return answer(ModelsAnswer(data=cards_sent, links={"self": f"{base(request)}/models"}, meta=meta))


def read_cards(local: Path) -> dict[str, dict[str, Any]]:
    """Return the model cards by name, without importing torch: those of one's ``local`` folder, then the shipped."""
    found = importlib.util.find_spec("quietbeam_models")
    shipped = [Path(place) / "weights" for place in (found.submodule_search_locations or ())] if found else []
    cards: dict[str, dict[str, Any]] = {}
    for folder in (local, *shipped):
        for path in sorted(folder.glob("*.json")):
            try:
                card = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(card, dict):
                cards[path.stem] = card
    return cards
