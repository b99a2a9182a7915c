"""Handwriting varies: one random affine map with a mild elastic bend, a draw for each image, one resample a batch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from digitnet.errors import check_argument

KNOTS = 6  # of the elastic field, in each direction; more make finer ripples


@dataclass(frozen=True)
class Augmentation:
    """Each amount is the largest that is drawn (uniformly, from both signs); what is left at 0 is not done."""

    rotation: float = 0.0  # degrees
    scale: float = 0.0  # share of the size, width and height drawn apart: 0.1 gives 0.9 to 1.1
    shear: float = 0.0  # sideways shift, as a share of the height
    shift: float = 0.0  # pixels
    elastic: float = 0.0  # pixels, standard deviation of the displacement at the knots of the coarse field

    def __post_init__(self) -> None:
        for name, limit in {"rotation": 180, "scale": 0.9, "shear": 2, "shift": 28, "elastic": 14}.items():
            amount = getattr(self, name)
            check_argument(0 <= amount <= limit, f"data.augmentation.{name}", amount, f"from 0 to {limit}")

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """uint8 `[N, 28, 28]` in, float 0 to 1 of the same shape out, on the same device."""
        n, height, width = images.shape
        generator = torch.Generator(images.device).manual_seed(seed)
        grid = F.affine_grid(self.draw_affine(n, generator), [n, 1, height, width], align_corners=False)
        if self.elastic > 0:
            grid = grid + self.draw_elastic(n, height, width, generator)
        pixels = images.unsqueeze(1).float() / 255
        return F.grid_sample(pixels, grid, align_corners=False).squeeze(1)

    def draw_affine(self, n: int, generator: torch.Generator) -> Tensor:
        """`[N, 2, 3]` maps from output to input coordinates, both from -1 to 1."""
        draws = torch.rand(6, n, generator=generator, device=generator.device) * 2 - 1
        angle = draws[0] * torch.pi / 180 * self.rotation
        wide, high = 1 + draws[1] * self.scale, 1 + draws[2] * self.scale
        shear = draws[3] * self.shear
        right, down = draws[4:] * self.shift * 2 / 28
        cos, sin = angle.cos(), angle.sin()
        rows = [cos * wide, (shear * cos - sin) * high, right, sin * wide, (shear * sin + cos) * high, down]
        return torch.stack(rows, dim=1).view(n, 2, 3)

    def draw_elastic(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """`[N, H, W, 2]` smooth displacements, in the same coordinates (Simard, Steinkraus and Platt, 2003)."""
        coarse = torch.randn(n, 2, KNOTS, KNOTS, generator=generator, device=generator.device)
        field = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
        return field.permute(0, 2, 3, 1) * (self.elastic * 2 / 28)
