"""The DeepLab family against the published networks: forward passes and training losses."""

from typing import Any

import fill
import numpy as np
import torch
from golden import FORWARD, Golden
from torch import Tensor, nn

from wsss import checkpoint
from wsss.data.augment import Normalisation
from wsss.nets.backbone import IMAGENET, build_backbone, freeze_norm
from wsss.nets.deeplab import LAYOUTS, DeepLab, pixel_loss, reduce_labels
from wsss.schema import SegmenterParams
from wsss.stages.segmenter import network

SCALE = {  # what keeps the made-up weights in a useful range, by manifest
    "deeplabv2_resnet101_msc": {
        r"base\.aspp\.c[0-3]\.weight": 0.02, r".*increase\.bn\.weight": 0.25,
    },
    "seg_deeplabv1_resnet38": {r"conv_fov\.weight": 0.02},
    "seg_deeplabv3plus_resnet101": {r"backbone\.layer.*\.bn3\.weight": 0.25},
    "resnet38_seg": {r"fc8_seg_conv1\.weight": 0.02},
}  # fmt: skip
