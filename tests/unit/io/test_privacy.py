"""Sentinels planted wherever a name can stand must not come out anywhere."""

from __future__ import annotations

import gzip
import subprocess
import sys

import pytest
from pydicom.datadict import keyword_dict
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

SENTINEL = "ZEBRAFINCH"
TAGS = (
    "PatientName PatientID OtherPatientNames PatientBirthName PatientMotherBirthName PatientAddress PatientComments "
    "PatientTelephoneNumbers PatientReligiousPreference MedicalRecordLocator EthnicGroup Occupation "
    "AdditionalPatientHistory InstitutionName InstitutionAddress InstitutionalDepartmentName StationName "
    "ReferringPhysicianName PerformingPhysicianName NameOfPhysiciansReadingStudy OperatorsName RequestingPhysician "
    "StudyDescription SeriesDescription ProtocolName SequenceName ImageComments AccessionNumber StudyID "
    "DeviceSerialNumber Manufacturer ManufacturerModelName SoftwareVersions RequestedProcedureDescription "
    "PerformedProcedureStepDescription BodyPartExamined ContentLabel"
)
APP = """
import sys, typer
from msksam_cli.commands.convert import convert
from msksam_cli.commands.scan import scan
from msksam_cli.errors import MsksamError
from msksam_cli.io.privacy import install_privacy_filter
install_privacy_filter()
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(scan)
app.command()(convert)
try:
    app()
except MsksamError as error:
    print("msksam:", error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def run(*arguments):
    command = [sys.executable, "-c", APP, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


def plant(ds: Dataset) -> None:
    for keyword in TAGS.split():
        setattr(ds, keyword, SENTINEL)
    ds.ScanningSequence = ["SE", SENTINEL]
    ds.ImageType = ["ORIGINAL", "PRIMARY", SENTINEL]
    ds.ScanOptions = SENTINEL
    ds.Laterality = SENTINEL
    ds.private_block(0x11, SENTINEL, create=True).add_new(1, "LO", SENTINEL)


@pytest.fixture
def study(synthetic, tmp_path):
    """Series that work and series that fail in every way that prints something, all full of sentinels."""
    root = tmp_path / f"{SENTINEL}^JANE" / "study"
    edits = {
        "works": lambda ds, index: None,
        "bad position": lambda ds, index: setattr(ds, "ImagePositionPatient", [0, 0, index**2]),
        "cut": lambda ds, index: setattr(ds, "PixelData", ds.PixelData[:9]),
        "slope": lambda ds, index: setattr(ds, "RescaleSlope", 0),
        "sr": lambda ds, index: (delattr(ds, "PixelData"), setattr(ds, "SOPClassUID", f"1.2.{index}")),
        "modality": lambda ds, index: (setattr(ds, "SOPClassUID", "1.2.3"), setattr(ds, "Modality", SENTINEL)),
        "syntax": lambda ds, index: (ds.compress(RLELossless), setattr(ds.file_meta, "TransferSyntaxUID", "1.2.3.4")),
    }
    for number, (name, edit) in enumerate(edits.items()):
        series = synthetic(series_uid=f"1.2.840.{number + 1}")
        folder = root / f"{name} {SENTINEL}"

        def change(ds, index, edit=edit):
            plant(ds)
            edit(ds, index)

        series.write(folder, change, name=lambda index: f"{SENTINEL}_{index}.dcm")
    damaged = root / f"cut {SENTINEL}" / f"{SENTINEL}_0.dcm"
    damaged.write_bytes(damaged.read_bytes()[:400])
    (root / f"{SENTINEL}.txt").write_text(SENTINEL)
    return root


def test_more_than_thirty_tags_are_planted():
    assert len(TAGS.split()) >= 30
    assert set(TAGS.split()) <= set(keyword_dict)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_scan_prints_no_sentinel(study, options):
    done = run("scan", study, *options)
    assert done.returncode == 3, done.stderr
    assert b"series-4-" in done.stdout
    assert SENTINEL.encode() not in done.stdout + done.stderr


def test_convert_writes_and_prints_no_sentinel(study, tmp_path):
    output = tmp_path / "out"
    done = run("convert", study, "-o", output)
    assert done.returncode == 3, done.stderr
    assert b"1 volumes written" in done.stdout
    assert SENTINEL.encode() not in done.stdout + done.stderr
    written = [path for path in output.rglob("*") if path.is_file()]
    assert len(written) == 2
    for path in written:
        content = path.read_bytes()
        assert SENTINEL not in path.relative_to(output).as_posix()
        assert SENTINEL.encode() not in (gzip.decompress(content) if path.suffix == ".gz" else content)


def test_an_error_about_the_whole_study_prints_no_sentinel(study, tmp_path):
    for arguments in (
        ("scan", study / "none"),
        ("convert", study, "-o", study / "in"),
        ("scan", study / "sr ZEBRAFINCH"),
    ):
        done = run(*arguments)
        assert done.returncode in (2, 4)
        assert done.stderr.startswith(b"msksam: ")
        assert b"ZEBRA" not in done.stdout + done.stderr


def test_third_party_talk_and_crashes_are_withheld():
    script = """
import logging, warnings
from msksam_cli.io.privacy import install_privacy_filter
install_privacy_filter()
install_privacy_filter()
warnings.warn_explicit("ZEBRAFINCH", UserWarning, "/home/ZEBRAFINCH/site-packages/pydicom/valuerep.py", 7)
warnings.warn_explicit("ours is kept", UserWarning, "/home/ZEBRAFINCH/msksam_cli/x.py", 7)
logging.getLogger("pydicom.late").warning("tag %s", "ZEBRAFINCH")
try:
    {}["ZEBRAFINCH"]
except KeyError:
    logging.getLogger("nibabel").exception("ZEBRAFINCH")
logging.getLogger("msksam").warning("ours is kept too")
class Thing:
    def __del__(self):
        raise KeyError("ZEBRAFINCH")
thing = Thing()
del thing
def work():
    raise LookupError("ZEBRAFINCH")
import threading
thread = threading.Thread(target=work)
thread.start()
thread.join()
def convert():
    try:
        open("/ZEBRAFINCH")
    except OSError as error:
        raise ValueError("ZEBRAFINCH") from error
convert()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 1
    assert "ZEBRA" not in done.stdout + done.stderr
    assert "pydicom/valuerep.py:7: UserWarning: message withheld" in done.stderr
    assert "pydicom: message withheld" in done.stderr
    assert "msksam_cli/x.py:7: UserWarning: ours is kept\n" in done.stderr
    assert "ours is kept too" in done.stderr
    assert "internal error (ValueError from FileNotFoundError)" in done.stderr
    assert "internal error (KeyError)" in done.stderr
    assert "internal error (LookupError)" in done.stderr
    assert "convert\n" in done.stderr
