"""Labels as a DICOM segmentation object that belongs to the study its images came from.

The one output that carries the patient's and the study's identifiers: without them no archive could put it beside
its images. It is written only where it is asked for. Each tissue is a segment of bits (PS3.3 A.51), each of its frames
refers to the image it was drawn on, and lies where that image lies.
"""

from __future__ import annotations

import hashlib
import importlib.util
import uuid
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msksam_cli import __version__
from msksam_cli.core.codes import PRIVATE, SNOMED, Code, StructureCode, parse_structure_code
from msksam_cli.core.quiet import without_warnings
from msksam_cli.core.series import Series
from msksam_cli.core.tissues import Tissue
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import EnvironmentFault, InputError, SeriesError
from msksam_cli.io.atomic import write_atomic

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset

_SERIES_NUMBER_OFFSET = 9000
_MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName", "StudyID", "PositionReferenceIndicator",
)  # fmt: skip
"""Attributes of type 2, which have to stand in an object and may be empty (PS3.5 7.4.3); anonymisers remove some."""

_PLACE_TOLERANCE_VOXELS = 0.05
_ANATOMY = Code(SNOMED, "123037004"), "Anatomical Structure"
_CATEGORIES = {
    Code(SNOMED, "108369006"): (Code(SNOMED, "49755003"), "Morphologically Abnormal Structure"),
    Code(SNOMED, "40388003"): (Code(SNOMED, "260787004"), "Physical object"),
}
"""Segmented property categories (PS3.16 CID 7150) of what is no anatomy: tumours and implants."""


def need_highdicom() -> None:
    """Nothing, when the package that writes segmentation objects is there.

    Raises:
        EnvironmentFault: it is not installed.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise EnvironmentFault("DICOM SEG needs highdicom", 'Install it: pip install "msksam[dicomseg]"')


def write_dicom_seg(path: Path, labels: LabelMap, series: Series, *, is_automatic: bool) -> bool:
    """Write labels as a segmentation object of the series they were made from.

    Its identifiers follow from those of the series and from the labels; an object that is there already with the same
    ones is left alone.

    Args:
        path: file to write.
        labels: (columns, rows, slices), as a series is read.
        series: their images.
        is_automatic: whether no one drew the prompts.

    Returns:
        Whether a file was written.

    Raises:
        SeriesError: the images lack what the object needs, changed, or are no whole multi-frame file.
        InputError: the labels are empty.
        EnvironmentFault: the file cannot be written.
    """
    sources = _sources(series)
    uid = _uid("instance", str(sources[0].get("SeriesInstanceUID", "")), _digest(labels))
    if _has_uid(path, uid):
        return False
    _check_places(labels, series, sources)
    _straighten(sources, labels.grid.spacing_mm[2])
    with without_warnings():  # they quote tags of the images
        try:
            made = _segmentation(labels, series, sources, uid, is_automatic)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise SeriesError(
                f"the images lack what a DICOM SEG needs ({type(error).__name__} in highdicom)",
                "Export the series again with all its tags",
            ) from error
    write_atomic(path, lambda stream: made.save_as(stream, enforce_file_format=True))
    return True


def _sources(series: Series) -> list[Dataset]:
    """Headers of the images: one per slice, or of the one multi-frame file."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    files = list(dict.fromkeys(series.files))
    try:
        sources = [dcmread(file, stop_before_pixels=True) for file in files]
    except (InvalidDicomError, OSError) as error:
        raise SeriesError("images cannot be read again", "Run the command again") from error
    if not sources[0].get("FrameOfReferenceUID"):
        raise SeriesError("the images name no frame of reference, which a DICOM SEG lies in", "Export them with it")
    for source in sources:
        for keyword in _MAY_BE_EMPTY:
            if keyword not in source:
                setattr(source, keyword, None)
    frames = int(sources[0].get("NumberOfFrames", 1) or 1)
    if frames > 1 and (len(files) > 1 or sorted(series.frames) != list(range(frames))):
        raise SeriesError(
            f"the volume takes {len(series.frames)} frames of a multi-frame file of {frames}, not all of one file",
            "Export the volume as a series of its own",
        )
    return sources


def _check_places(labels: LabelMap, series: Series, sources: Sequence[Dataset]) -> None:
    """See that every single-frame image still lies where its labels do."""
    if labels.values.shape[2] != len(series.files):
        raise SeriesError(f"{labels.values.shape[2]} slices of labels for {len(series.files)} images")
    if len(sources) != len(series.files):
        return
    lps = np.array([[float(x) for x in source.ImagePositionPatient] for source in sources])
    places = labels.grid.to_voxel(lps * (-1.0, -1.0, 1.0))
    expected = np.zeros_like(places)
    expected[:, 2] = np.arange(len(sources))
    off = float(np.abs(places - expected).max())
    if off > _PLACE_TOLERANCE_VOXELS:
        raise SeriesError(f"labels lie {off:.2f} voxels from their images", "Segment the series again")


def _straighten(sources: Sequence[Dataset], spacing_mm: float) -> None:
    """Let headers say how far slices really are apart, and which way they lie in the same words.

    The tags of spacing and thickness can be wrong, and highdicom copies them; positions were measured. Orientations
    that differ by rounding are one.
    """
    from pydicom.valuerep import DSfloat

    for source in sources:
        if "SharedFunctionalGroupsSequence" in source:
            measures = source.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence") or []
        else:
            measures = [source]
            source.ImageOrientationPatient = sources[0].ImageOrientationPatient
        for measure in measures:
            measure.SliceThickness = DSfloat(spacing_mm, auto_format=True)
            measure.SpacingBetweenSlices = DSfloat(spacing_mm, auto_format=True)


def _segmentation(
    labels: LabelMap, series: Series, sources: Sequence[Dataset], uid: str, is_automatic: bool
) -> Segmentation:
    from highdicom.seg import Segmentation, SegmentationTypeValues

    found = [tissue for tissue in labels.tissues if tissue.index in labels.boxes]
    if not found:
        raise InputError("no voxel has a label, and a DICOM SEG has at least one segment")
    number_of = np.zeros(max(labels.tissues.indices) + 1, dtype=np.uint16)
    number_of[[tissue.index for tissue in found]] = np.arange(1, len(found) + 1)
    planes = number_of[labels.values].transpose(2, 1, 0)
    if len(sources) == 1:
        planes = planes[np.argsort(series.frames)]
    series_uid = str(sources[0].SeriesInstanceUID)
    return Segmentation(
        source_images=list(sources),
        pixel_array=planes,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(n, tissue, is_automatic) for n, tissue in enumerate(found, start=1)],
        series_instance_uid=_uid("series", series_uid, uid),
        series_number=_SERIES_NUMBER_OFFSET + int(sources[0].get("SeriesNumber") or 0) % 1000,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer="msksam",
        manufacturer_model_name="msksam",
        software_versions=__version__,
        device_serial_number=__version__,
        series_description="msksam segmentation",
        content_label="MSKSAM",
        content_description="Tissues by msksam, not for diagnosis",
    )


def _segment(number: int, tissue: Tissue, is_automatic: bool) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    code = _structure(tissue)
    algorithm = AlgorithmIdentificationSequence("msksam", codes.cid7162.ArtificialIntelligence, __version__)
    segment = SegmentDescription(
        segment_number=number,
        segment_label=tissue.name,
        segmented_property_category=_concept(*_CATEGORIES.get(code.kind, _ANATOMY)),
        segmented_property_type=_concept(code.kind, _meaning(code.kind, tissue)),
        algorithm_type="AUTOMATIC" if is_automatic else "SEMIAUTOMATIC",
        algorithm_identification=algorithm,
        anatomic_regions=[_concept(code.region, _meaning(code.region, tissue))] if code.region else None,
        display_color=CIELabColor.from_rgb(*tissue.rgb),
    )
    segment.SegmentDescription = f"label {tissue.index}"
    if code.kind_modifier:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(code.kind_modifier, _meaning(code.kind_modifier))]
    if code.region_modifier:
        region = segment.AnatomicRegionSequence[0]
        region.AnatomicRegionModifierSequence = [_concept(code.region_modifier, _meaning(code.region_modifier))]
    return segment


def _structure(tissue: Tissue) -> StructureCode:
    """The code of a tissue's table; a private one, of its name, where the table has none that can be read."""
    try:
        return parse_structure_code(tissue.mapping)
    except InputError:
        return StructureCode(Code(PRIVATE, "-".join(tissue.name.split()).replace("/", "-")))


def _meaning(code: Code, tissue: Tissue | None = None) -> str:
    """What a code means: in the words of pydicom's dictionary for SNOMED CT, else the tissue's name."""
    known = _snomed_meanings().get(code.value) if code.scheme == SNOMED else None
    return known or (tissue.name if tissue else code.value)


@cache
def _snomed_meanings() -> dict[str, str]:
    """Code → the shortest meaning that pydicom's dictionary has for it."""
    from pydicom.sr._concepts_dict import concepts

    found: dict[str, str] = {}
    for entries in concepts[SNOMED].values():
        for value, (meaning, _) in entries.items():
            if value not in found or len(meaning) < len(found[value]):
                found[value] = meaning
    return found


def _concept(code: Code, meaning: str) -> CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, meaning[:64])


def _uid(*parts: str) -> str:
    """A UID that follows from texts: a version 5 UUID under 2.25 (PS3.5 B.2, RFC 9562)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join(parts)).int}"


def _digest(labels: LabelMap) -> str:
    values: NDArray[Any] = np.ascontiguousarray(labels.values, dtype="<u2")
    named = [(tissue.index, tissue.name, tissue.color, tissue.mapping) for tissue in labels.tissues]
    return hashlib.sha256(f"{__version__} {named}".encode() + values.tobytes()).hexdigest()


def _has_uid(path: Path, uid: str) -> bool:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    if not path.is_file():
        return False
    try:
        return str(dcmread(path, specific_tags=["SOPInstanceUID"]).get("SOPInstanceUID", "")) == uid
    except (InvalidDicomError, OSError):
        return False
