"""The scripts that go along with an exported model: a picture is classified without woofkit, with the same answer."""

from woofkit.data import Transform

NEEDS = {"use_me.py": ("timm", "torch", "safetensors", "pillow"), "use_onnx.py": ("onnxruntime", "numpy", "pillow")}

READ = """about = json.loads((Path(__file__).parent / "preprocess.json").read_text(encoding="utf-8"))
image = ImageOps.exif_transpose(Image.open(sys.argv[1]))
if image.mode[0] in "IF":
    sys.exit("pictures of more than 8 bits per channel have to be converted to 8 bits first")
if image.has_transparency_data:  # what is transparent lies on white
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
image = image.convert("RGB"){greyscale}
{cut}
"""
SQUEEZE = "image = image.resize(({size}, {size}), Image.Resampling.{interpolation})"
CROP = """sides = [int({resize} * side / min(image.size)) for side in image.size]
image = image.resize(sides, Image.Resampling.{interpolation})
left, top = (round((side - {size}) / 2) for side in image.size)
image = image.crop((left, top, left + {size}, top + {size}))"""

TORCH = """model = timm.create_model(about["model"], num_classes=len(about["class_names"])).eval()
model.load_state_dict(load_file(Path(__file__).parent / "model.safetensors"))
pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view({size}, {size}, 3)
inputs = (pixels / 255 - torch.tensor(about["mean"])) / torch.tensor(about["std"])
with torch.inference_mode():
    probabilities = model(inputs.permute(2, 0, 1)[None])[0].softmax(dim=0)
"""
ONNX = """model = onnxruntime.InferenceSession(Path(__file__).parent / "model.onnx", providers=["CPUExecutionProvider"])
pixels = np.asarray(image, dtype=np.float32)
inputs = (pixels / 255 - np.float32(about["mean"])) / np.float32(about["std"])
[logits] = model.run(None, {{"images": inputs.transpose(2, 0, 1)[None]}})
probabilities = np.exp(logits[0] - logits[0].max()) / np.exp(logits[0] - logits[0].max()).sum()
"""
SAY = """best = int(probabilities.argmax())
print(about["class_names"][best], f"{probabilities[best]:.4f}")
"""
IMPORTS = {
    "use_me.py": """import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
""",
    "use_onnx.py": """import numpy as np
import onnxruntime
from PIL import Image, ImageOps
""",
}


def script(name: str, transform: Transform) -> str:
    """The text of "use_me.py" or "use_onnx.py" for pictures that are cut by `transform`."""
    settings = {"size": transform.size, "resize": transform.resize, "interpolation": transform.interpolation.name}
    cut = (SQUEEZE if transform.resize is None else CROP).format(**settings)
    greyscale = '.convert("L").convert("RGB")' if transform.greyscale else ""
    *others, last = NEEDS[name]
    words = f'"""Classify a picture: python {name} PICTURE. It needs {", ".join(others)} and {last}."""\n\n'
    imports = f"import json\nimport sys\nfrom pathlib import Path\n\n{IMPORTS[name]}\n"
    compute = (TORCH if name == "use_me.py" else ONNX).format(**settings)
    return words + imports + READ.format(greyscale=greyscale, cut=cut) + compute + SAY
