"""Networks with the weights of the published layout."""

from typing import Any

from golden import Golden

from wsss.methods.base import load_method
from wsss.methods.single_stage.base import SingleStage
from wsss.settings import Params, method_spec
from wsss.settings.resolve import resolve_settings
from wsss.storage import checkpoint


def method(name: str, classes: int, **settings: Any) -> SingleStage:
    """Return a method at full size with its published settings, and `settings` over them."""
    found = resolve_settings(Params(), "shapes", name, "published").networks
    own = {
        key: params.model_copy(
            update={
                "hyper_parameters": method_spec.hyper_parameters(
                    name, key, **{**params.hyper_parameters.model_dump(), **settings}
                )
            }
        )
        for key, params in found.items()
    }
    return load_method(name)(own, classes)  # type: ignore[return-value]  # one of the family


def adopted(golden: Golden, name: str, dataset: str = "voc") -> tuple[SingleStage, Any]:
    """Return a method and its network with the weights of a published file."""
    manifest = f"{name}_vitb_{dataset}"
    classes = golden.json(f"manifest_{manifest}.json")["classifier.weight"][0]
    made = method(name, classes)
    net = made.build("classifier").eval()
    path = golden.checkpoint(manifest)
    checkpoint.adopt(net, path, made.layout("classifier"))
    path.unlink()
    return made, net
