"""Which of a lesion's files an image mode needs: cut-outs for ``crop``, the film for ``roi`` and ``film``."""

from shared_model.config.choices import ImageMode

BOX_NEEDS_ROI = "boxes need data.image.mode=roi, since they lie on the film; or leave roi_x to roi_h out"
ROI_NEEDS_BOX = "no box: data.image.mode=roi needs roi_x, roi_y, roi_w and roi_h of the lesion on its film"


def shows_film(mode: ImageMode | None) -> bool:
    """Return whether the network's input is cut from the film, or is all of it; None needs no image."""
    return mode in (ImageMode.ROI, ImageMode.FILM)
