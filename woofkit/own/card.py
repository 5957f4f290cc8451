"""The model card of an exported run: what it was made of, how good it is, and what it must not be used for."""

from collections.abc import Collection, Mapping
from typing import Any

from woofkit.config import TrainConfig
from woofkit.files import PACKAGES
from woofkit.models import BUNDLED_MODEL
from woofkit.own.finished import Finished
from woofkit.own.scripts import NEEDS
from woofkit.results import METHOD_NAMES, percent

DATA = {
    "sketchwoof": "SketchWoof: dogs that code has drawn, ten breeds",
    "imagewoof": "ImageWoof: photographs of ten dog breeds, from ImageNet",
    "folder": "the pictures of one folder, whose classes are its folders",
}
DRAWINGS = "**It has seen only drawings: cartoons of dogs that code has drawn. It has never seen a photograph.**"
FIRST_DRAWINGS = "Its initial weights had seen only drawings of dogs; it has seen photographs in this training alone."
LAST_DRAWINGS = "**Its training showed it only drawings of dogs, whatever its initial weights had seen before.**"
SMALL = 30  # test images of a class below which an accuracy says little of that class

PURPOSE = """It compares ways of fine-tuning, and names one of the classes above for a picture that shows one of them.

Do not use it

- for decisions about people or animals, in medicine, or wherever an error does harm;
- on pictures of anything else: it has no answer for "none of these", and is often sure of a wrong one;
- on other kinds of pictures than those it was trained on, before its accuracy on them has been measured;
- as proof of a breed, an identity or an origin.

Its probabilities are not calibrated. The test images come from the same source as the training images, so that the
accuracy above holds for such pictures. The licences of the pictures and of the initial weights hold for it too."""


def model_card(finished: Finished, metrics: Mapping[str, Any], files: Collection[str]) -> str:
    """The card in markdown. `metrics` are those of the run; `files` are the names that lie beside the card."""
    config = finished.config
    method = METHOD_NAMES[config.method]
    title = f"# {config.model_name}: {len(finished.class_names)} classes, {method}"
    blocks = [title, *_met(config), _accuracy(metrics, len(finished.class_names)), "## Use", _use(files)]
    blocks += ["## Classes", "; ".join(finished.class_names) + "."]
    blocks += ["## Data", _bullets(_data(config, metrics)), "## Training", _bullets(_training(config, metrics))]
    blocks += ["## What it is for, and what not", PURPOSE, "## Made with", _versions(metrics)]
    return "\n\n".join(blocks) + "\n"


def _accuracy(metrics: Mapping[str, Any], num_classes: int) -> str:
    """The test accuracy and how sure it is, and that on images which pretraining has not seen, if they are few."""

    def words(name: str) -> str:
        value, low, high = (percent(metrics[f"{name}_accuracy{end}"]) for end in ("", "_low", "_high"))
        return f"**{value}** (95% interval {low} to {high})"

    text = f"Test accuracy: {words('test')} on {metrics['num_test_images']:,} test images, none of which it trained on."
    if metrics["num_test_images"] < SMALL * num_classes:
        text += " They are few: of a single class this says little."
    if "unseen_accuracy" in metrics:
        unseen = f"{metrics['num_unseen_images']:,}"
        text += f" On the {unseen} of them that ImageNet's training images do not hold: {words('unseen')}."
    return text


def _met(config: TrainConfig) -> list[str]:
    """One sentence on drawings, if it has seen any."""
    if config.dataset == "sketchwoof":
        return [DRAWINGS if config.weights in ("bundled", "random") else LAST_DRAWINGS]
    return [FIRST_DRAWINGS] if config.weights == "bundled" else []


def _use(files: Collection[str]) -> str:
    lines = []
    for name, packages in NEEDS.items():
        if name in files:
            lines += [f"pip install {' '.join(packages)}", f"python {name} picture.jpg"]
    text = "```bash\n" + "\n".join(lines) + "\n```\n\n"
    text += (
        "`preprocess.json` says what a picture has to go through first. The weights in `model.safetensors` have timm's "
    )
    text += "names. `run.json` holds all settings of the run and the hashes of its data."
    if "model.onnx" in files:
        text += " `model.onnx` takes `images`, float (B, 3, H, W), normalised, and gives `logits`."
    if "adapter" in files:
        text += (
            " `adapter/` holds what LoRA has trained, for `peft.PeftModel.from_pretrained(base, 'adapter')`. Its base "
            "is the model with the initial weights, which are not among these files."
        )
    return text


def _data(config: TrainConfig, metrics: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {"training": "num_train_images", "validation": "num_val_images", "test": "num_test_images"}
    splits = [f"{metrics[key]:,} {split}" for split, key in sizes.items() if key in metrics]
    facts = {"data": DATA[config.dataset], "images": ", ".join(splits)}
    if config.dataset == "imagewoof":
        facts["scheme"] = config.scheme
    if config.label_fraction < 1:
        facts["share of the training labels"] = percent(config.label_fraction)
    return facts | {"named": config.label} if config.dataset != "folder" else facts


def _training(config: TrainConfig, metrics: Mapping[str, Any]) -> dict[str, Any]:
    weights = {"bundled": f"woofkit's {BUNDLED_MODEL}, pretrained on drawings", "timm": "timm's", "random": "random"}
    facts = {
        "method": METHOD_NAMES[config.method],
        "initial weights": weights.get(config.weights, "a file of weights"),
        "trained parameters": f"{metrics['trainable_parameters']:,} of {metrics['total_parameters']:,}",
        "preprocessing": config.preprocess,
    }
    if config.method == "zero-shot":
        return facts
    if config.lora:
        facts["adapter"] = f"rank {config.lora.rank}, alpha {config.lora.alpha:g}, on {', '.join(config.lora.targets)}"
        facts["trained beside it"] = ", ".join(config.lora.modules_to_save) or "nothing"
    if config.method == "last":
        facts["blocks"] = f"the last {config.last_blocks}"
    chosen = f", the weights of epoch {metrics['selected_epoch']} kept"
    facts |= {
        "epochs": f"{config.epochs}{chosen if metrics.get('selected_epoch') else ''}",
        "optimiser": f"Adam, learning rate {config.lr:g} ({config.schedule}), batches of {config.batch_size}",
        "augmentation": config.augment,
        "precision": metrics["precision"],
        "seed": config.seed,
    }
    if "stopped_epoch" in metrics:
        facts["stopped early"] = (
            f"in epoch {metrics['stopped_epoch']}, after {metrics['stopped_images']:,} of its images"
        )
    return facts


def _versions(metrics: Mapping[str, Any]) -> str:
    versions = [f"{package} {metrics[package]}" for package in PACKAGES if package in metrics]
    return f"Trained on {metrics['date'][:10]} by woofkit (commit {metrics['commit'][:12]}) with {', '.join(versions)}."


def _bullets(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())
