"""Metadata and dependencies; tool settings are in pyproject.toml."""

import pathlib

from setuptools import setup

# tensorflow-text follows TensorFlow's minor version and asks for it, so one range ties the two. 2.21.0 of it fails at import
# (tensorflow/text#1541). There is no wheel for Windows: kbert imports there, and says so where text is first read.
TENSORFLOW = "tensorflow>=2.20,<2.22"
TENSORFLOW_TEXT = 'tensorflow-text>=2.20.1,!=2.21.0,<2.22; platform_system != "Windows"'

# The minor versions whose private members tests/training/test_keras_internals.py has tried: 3.12, 3.13, 3.14 and 3.15.
KERAS = "keras>=3.12,<3.16"

EXTRAS = {
    "serving": ["tensorflow-serving-api>=2.20,<2.22", "grpcio>=1.60", "tornado>=6.4"],
    "litert": ["ai-edge-litert>=2.0"],
    "onnx": ["tf2onnx>=1.17", "onnxruntime>=1.20", "onnxruntime-extensions>=0.13"],
    "plot": ["tensorboard", "matplotlib>=3.8"],
    "data": ["pandas>=2.2", "pyarrow>=15"],
    "test": [
        "pytest>=8", "pytest-xdist>=3.7", "hypothesis>=6.100", "tokenizers>=0.22", "seqeval>=1.2", "scikit-learn>=1.4",
        "scipy>=1.12", "nbclient>=0.10", "ipykernel>=6", "mediapipe>=1.2", "ruff>=0.9", "build>=1.2", "mypy>=1.15",
        "import-linter>=2.17",
    ],
}  # fmt: skip
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})

setup(
    name="kbert",
    version="0.1.0",
    description="BERT for Keras: strings in, fine-tuned, exported to TF Serving, phones and ONNX, answers out",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=[
        "kbert",
        "kbert.files",
        "kbert.scoring",
        "kbert.engines",
        "kbert.commands",
        "kbert.text",
        "kbert.encoders",
        "kbert.tasks",
        "kbert.pretraining",
        "kbert.distillation",
        "kbert.checkpoints",
        "kbert.training",
        "kbert.export",
        "kbert.export.server",
    ],
    # The folder `export/` stands beside `kbert/`, and is imported as `kbert.export`.
    package_dir={"kbert": "kbert", "kbert.export": "export"},
    package_data={"kbert": ["py.typed"], "kbert.text": ["*.json.gz"]},
    install_requires=[
        TENSORFLOW,
        TENSORFLOW_TEXT,
        KERAS,
        "keras-nlp>=0.20",
        "numpy>=1.26",
        "safetensors>=0.5",
        "huggingface_hub>=0.30",
        "rich>=13",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["kbert = kbert.commands.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
