"""A window that shows pictures one after the other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_INCH = 100


class Window:
    """A matplotlib window; where there is no display the pictures are drawn and nobody sees them.

    Args:
        title: of the window.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._figure: Any = None
        self._picture: Any = None

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture of shape (H, W, 3), in the place of the one before."""
        from matplotlib import pyplot

        if self._figure is None:
            height, width = picture.shape[:2]
            self._figure = pyplot.figure(self._title, (width / _INCH, height / _INCH), _INCH)
            axes = self._figure.add_axes((0, 0, 1, 1), frameon=False)
            axes.set_axis_off()
            self._picture = axes.imshow(picture)
            if self._figure.canvas.required_interactive_framework is not None:
                self._figure.show()
        self._picture.set_data(picture)
        self._figure.canvas.draw_idle()
        self._figure.canvas.flush_events()

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._figure is not None:
            from matplotlib import pyplot

            pyplot.close(self._figure)
            self._figure = self._picture = None
