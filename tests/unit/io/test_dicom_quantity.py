import numpy as np
import pytest
from pydicom.dataset import Dataset

from msksam_cli.io.dicom_quantity import decay_of, ready_made, real_world_values
from msksam_cli.io.dicom_values import FrameValues
from msksam_cli.io.study import read_quantity, scan_study


def values(**tags):
    header = Dataset()
    for name, value in tags.items():
        setattr(header, name, value)
    return FrameValues(header, ())


def mapping(slope, intercept, unit="ms"):
    units, item = Dataset(), Dataset()
    units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = unit, "UCUM", unit
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    item.MeasurementUnitsCodeSequence = [units]
    return item


@pytest.mark.parametrize(
    ("image_type", "description", "quantity"),
    [
        (("DERIVED", "PRIMARY", "M", "T2_MAP"), "", "T2map"),
        (("ORIGINAL", "PRIMARY", "T2 MAP", "NONE"), "", "T2map"),
        (("DERIVED", "PRIMARY", "M", "T2_STAR_MAP"), "", "T2starmap"),
        (("DERIVED", "SECONDARY"), "SAG T2 Map knee", "T2map"),
        (("DERIVED", "SECONDARY"), "T1rho_Map", "T1rhomap"),
        (("DERIVED", "SECONDARY"), "cart T2* map", "T2starmap"),
        (("ORIGINAL", "PRIMARY", "OTHER"), "SAG T2 MAP", ""),
        (("DERIVED", "SECONDARY"), "SAG T2 FS", ""),
        (("DERIVED", "SECONDARY", "MPR"), "T2 mapping source", ""),
        ((), "T2 map", ""),
    ],
)
def test_a_ready_made_map_is_known_by_its_image_type_or_as_a_derived_series_by_its_description(
    image_type, description, quantity
):
    assert ready_made(values(SeriesDescription=description), image_type) == quantity


@pytest.mark.parametrize(
    ("tags", "sequence", "decay"),
    [
        ({"SeriesDescription": "SAG T2 MESE"}, "SE", "T2map"),
        ({"SeriesDescription": "SAG T1rho TSL 1"}, "GR", "T1rhomap"),
        ({"ProtocolName": "knee_spin-lock"}, "SE", "T1rhomap"),
        ({"SeriesDescription": "T1 rest"}, "SE", "T2map"),
        ({"SeriesDescription": "AX multi echo"}, "GR", "T2starmap"),
        ({"EchoPulseSequence": "GRADIENT"}, "", "T2starmap"),
        ({}, "RM", ""),
    ],
)
def test_what_echoes_fade_by_is_told_by_the_name_of_a_spin_lock_and_by_the_sequence(tags, sequence, decay):
    assert decay_of(values(**tags), sequence) == decay


def test_real_world_values_start_from_stored_values_whatever_the_rescale():
    value = values(RescaleSlope=2.0, RescaleIntercept=-10.0, RealWorldValueMappingSequence=[mapping(0.1, 3.0)])
    unit, (slope, intercept) = real_world_values(value)
    stored = 250.0
    assert unit == "ms"
    assert slope * (stored * 2.0 - 10.0) + intercept == pytest.approx(0.1 * stored + 3.0)


def test_a_unit_outside_the_list_and_a_missing_mapping_are_unknown():
    assert real_world_values(values()) == ("", None)
    odd = values(RealWorldValueMappingSequence=[mapping(1.0, 0.0, "DOE^JANE")])
    assert real_world_values(odd) == ("", (1.0, 0.0))


def test_a_series_of_a_map_is_read_in_its_real_world_unit(synthetic, tmp_path):
    series = synthetic(5)
    series.tags = {
        "ImageType": ["DERIVED", "PRIMARY", "M", "T2_MAP"],
        "RescaleSlope": 1.0,
        "RescaleIntercept": 0.0,
        "RealWorldValueMappingSequence": [mapping(0.1, 0.0)],
    }
    series.write(tmp_path)
    (one,) = scan_study(tmp_path).series
    assert (one.is_map, one.quantity, one.unit) == (True, "T2map", "ms")
    found, _ = read_quantity(one, "s")
    assert found.unit == "ms"
    np.testing.assert_allclose(np.sort(found.values.ravel()), np.sort(series.voxels.ravel()) * 0.1, rtol=1e-5)


def test_slices_of_a_map_with_different_mappings_are_refused(synthetic, tmp_path):
    series = synthetic(5)
    series.tags = {"ImageType": ["DERIVED", "PRIMARY", "M", "T2_MAP"]}

    def edit(dataset, index):
        dataset.RealWorldValueMappingSequence = [mapping(0.1 + index, 0.0)]

    series.write(tmp_path, edit)
    scan = scan_study(tmp_path)
    assert scan.series == ()
    assert "real-world values in different ways" in scan.refused[0].reason


def test_no_word_of_a_description_leaves_the_reader(synthetic, tmp_path):
    series = synthetic(5)
    series.tags = {"SeriesDescription": "DOE JANE T1rho", "ProtocolName": "DOE JANE"}
    series.write(tmp_path)
    (one,) = scan_study(tmp_path).series
    assert one.decay == "T1rhomap"
    assert "DOE" not in repr(one).replace(str(tmp_path), "")
