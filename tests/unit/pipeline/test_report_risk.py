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


def test_expected_dice_goes_before_doubts_about_tissues_and_after_those_about_the_case():
    def rated(value, *flags):
        return case_risk([tissue(expected_dice=value), tissue("tibia", expected_dice="")], flags)

    misplaced = rated("0.95", flag("atlas_fit_low", "all"))
    doubted = rated("0.8", flag("fragmented"))
    assert misplaced.key < rated("0.4").key < doubted.key < rated("0.8").key
    assert case_risk([tissue(status="empty", expected_dice="0.95")], []).key < misplaced.key
    assert rated("0.4", flag("expected_dice_low")).key == rated("0.4").key, "the same is not held against it twice"
    assert rated("0.4").words == "Lowest expected Dice 0.40; lowest IoU prediction 0.90 (femur)."
    assert "whole case, lowest expected Dice of a tissue, doubts about tissues" in order_words([SOUND, rated("0.4")])
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
