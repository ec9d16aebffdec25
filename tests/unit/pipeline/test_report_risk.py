import pytest

from msksam_cli.pipeline.report_risk import case_risk, order_words


def tissue(name="femur", status="complete", iou="0.9", **more):
    return {"tissue": name, "status": status, "iou_prediction_mean": iou, **more}


def flag(kind, tissue="femur"):
    return {"tissue": tissue, "flag": kind}


SOUND = case_risk([tissue()], [])


def test_worse_cases_come_first_in_the_order_of_the_words():
    lost = case_risk([tissue(), tissue("tibia", "empty", "")], [])
    placed = case_risk([tissue()], [flag("atlas_fit_low", "all")])
    frayed = case_risk([tissue()], [flag("fragmented"), flag("prior_disagreement")])
    once = case_risk([tissue()], [flag("fragmented")])
    unsure = case_risk([tissue(iou="0.6"), tissue("tibia")], [])
    cases = [SOUND, unsure, once, frayed, placed, lost]
    assert sorted(cases, key=lambda risk: risk.key) == cases[::-1]


def test_flags_about_the_field_of_view_move_no_case():
    assert case_risk([tissue()], [flag("touches_border"), flag("cut_by_field_of_view")]) == SOUND


def test_what_is_not_known_counts_as_bad():
    assert case_risk([tissue(iou="")], []).key < case_risk([tissue(iou="0.01")], []).key


@pytest.mark.parametrize("in_flags", [False, True])
def test_expected_dice_goes_before_all_else_from_either_table(in_flags):
    def rated(value):
        rows = [] if in_flags else [{"expected_dice": value}]
        found = [tissue(**(rows[0] if rows else {})), tissue("tibia", expected_dice="")]
        return case_risk(found, [{**flag("touches_border"), "expected_dice": value}] if in_flags else [])

    bad_flags = case_risk([tissue(status="empty", expected_dice="0.95")], [flag("atlas_fit_low", "all")])
    assert rated("0.4").key < rated("0.8").key < bad_flags.key
    assert rated("0.4").words.startswith("Expected Dice 0.40;")
    assert order_words([SOUND, rated("0.4")]).startswith("Sorted by lowest expected Dice")
    assert "expected" not in order_words([SOUND])


def test_the_words_name_the_numbers():
    risk = case_risk(
        [tissue(iou="0.62"), tissue("tibia", "failed", "")],
        [flag("atlas_fit_low", "all"), flag("fragmented"), flag("fragmented")],
    )
    assert risk.words == (
        "1 tissue empty or failed; doubts: 1 about the whole case, 2 about tissues; lowest IoU prediction 0.62 (femur)."
    )
    assert case_risk([tissue(iou="")], []).words == "Nothing is known against it."
