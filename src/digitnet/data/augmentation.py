"""Random affine and elastic distortions of digits, and cutout."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from digitnet.errors import check_argument

_ELASTIC_GRID_SIZE = 6
"""Number of points of the coarse displacement grid in each direction; more points give finer ripples."""


@dataclass(frozen=True)
class Augmentation:
    """A random affine map and a random elastic distortion in one resampling, then cutout, drawn for each image.

    The first four arguments are the largest amounts, drawn uniformly from both signs; 0 turns a distortion off.

    Args:
        rotation: Rotation about the centre in degrees, from 0 to 180.
        scale: Relative change of size, drawn separately for width and height: with 0.1, both are divided by 0.9 to 1.1.
            From 0 to 0.9.
        shear: Horizontal displacement as a fraction of the height, from 0 to 2.
        shift: Horizontal and vertical displacement in pixels before scaling, from 0 to 28.
        elastic: Standard deviation of the displacement at the points of a coarse grid in pixels, from 0 to 14; the
            displacements between are interpolated (after Simard, Steinkraus and Platt, 2003).
        cutout: Side of a square in pixels, from 0 to 28, that is set to black (DeVries and Taylor, 2017). Its centre is
            drawn from all positions in the image, so that a part of the square may lie outside.
        views: Number of different distortions of each image. After this many epochs, the order and the distortions of
            the batches repeat, and the outputs of a teacher are reused (see `Distillation`). At least 1; None means
            that every epoch differs.

    Raises:
        ArgumentError: If a value is out of range.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    cutout: int = 0
    views: int | None = None

    def __post_init__(self) -> None:
        check_argument(self.views is None or self.views >= 1, "views", self.views, "at least 1")
        limits = {"rotation": 180, "scale": 0.9, "shear": 2, "shift": 28, "elastic": 14, "cutout": 28}
        for name, limit in limits.items():
            amount = getattr(self, name)
            check_argument(0 <= amount <= limit, name, amount, f"from 0 to {limit}")

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """Augment a batch of images.

        Args:
            images: Images `[N, 28, 28]`, uint8.
            seed: 64-bit seed; the same seed gives the same distortions.

        Returns:
            Images `[N, 28, 28]` on the same device, floating point from 0 to 1.
        """
        n, height, width = images.shape
        generator = torch.Generator(images.device).manual_seed(seed)
        grid = F.affine_grid(self._sample_affine(n, generator), [n, 1, height, width], align_corners=False)
        if self.elastic > 0:
            grid = grid + self._sample_elastic(n, height, width, generator)
        pixels = images.unsqueeze(1).float() / 255
        pixels = F.grid_sample(pixels, grid, align_corners=False).squeeze(1)
        return pixels.masked_fill(self._sample_squares(n, height, width, generator), 0) if self.cutout else pixels

    def _sample_affine(self, n: int, generator: torch.Generator) -> Tensor:
        """Return maps `[N, 2, 3]` from output to input coordinates, both from -1 to 1."""
        draws = torch.rand(6, n, generator=generator, device=generator.device) * 2 - 1
        angle = draws[0] * torch.pi / 180 * self.rotation
        scale_x, scale_y = 1 + draws[1] * self.scale, 1 + draws[2] * self.scale
        shear = draws[3] * self.shear
        right, down = draws[4:] * self.shift * 2 / 28
        cos, sin = angle.cos(), angle.sin()
        rows = [cos * scale_x, (shear * cos - sin) * scale_y, right, sin * scale_x, (shear * sin + cos) * scale_y, down]
        return torch.stack(rows, dim=1).view(n, 2, 3)

    def _sample_elastic(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Return smooth displacements `[N, H, W, 2]` in the coordinates of the affine map."""
        size = _ELASTIC_GRID_SIZE
        coarse = torch.randn(n, 2, size, size, generator=generator, device=generator.device)
        field = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
        return field.permute(0, 2, 3, 1) * (self.elastic * 2 / 28)

    def _sample_squares(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Return masks `[N, H, W]` that are true in a square of each image."""
        device = generator.device
        center_y, center_x = torch.rand(2, n, 1, generator=generator, device=device)
        rows = (torch.arange(height, device=device) + 0.5 - center_y * height).abs() < self.cutout / 2
        columns = (torch.arange(width, device=device) + 0.5 - center_x * width).abs() < self.cutout / 2
        squares: Tensor = rows.unsqueeze(2) & columns.unsqueeze(1)
        return squares
