"""Names, colours and groups of the tissues that the procedural knee is made of."""

from __future__ import annotations

from msksam_cli.core.tissues import Tissue, TissueTable

FEMUR, TIBIA, PATELLA, FIBULA = 1, 2, 3, 4
FEMORAL_CARTILAGE, MEDIAL_TIBIAL_CARTILAGE, LATERAL_TIBIAL_CARTILAGE, PATELLAR_CARTILAGE = 5, 6, 7, 8
MEDIAL_MENISCUS, LATERAL_MENISCUS = 9, 10
ANTERIOR_CRUCIATE, POSTERIOR_CRUCIATE, MEDIAL_COLLATERAL, LATERAL_COLLATERAL = 11, 12, 13, 14
PATELLAR_LIGAMENT, QUADRICEPS_TENDON = 15, 16
QUADRICEPS, HAMSTRINGS, GASTROCNEMIUS, LEG_MUSCLES = 17, 18, 19, 20
FAT, SKIN, JOINT_FLUID = 21, 22, 23
POPLITEAL_VESSELS = 24

KNEE_TISSUES = TissueTable(
    (
        Tissue(FEMUR, "femur", "F", "#e8c98a", "", "bone"),
        Tissue(TIBIA, "tibia", "T", "#8fb8de", "", "bone"),
        Tissue(PATELLA, "patella", "P", "#d98e73", "", "bone"),
        Tissue(FIBULA, "fibula", "Fi", "#9c8ade", "", "bone"),
        Tissue(FEMORAL_CARTILAGE, "femoral-cartilage", "FC", "#2ec4b6", "", "cartilage"),
        Tissue(MEDIAL_TIBIAL_CARTILAGE, "medial-tibial-cartilage", "MTC", "#ff6f91", "medial", "cartilage"),
        Tissue(LATERAL_TIBIAL_CARTILAGE, "lateral-tibial-cartilage", "LTC", "#ffc75f", "lateral", "cartilage"),
        Tissue(PATELLAR_CARTILAGE, "patellar-cartilage", "PC", "#5ad162", "", "cartilage"),
        Tissue(MEDIAL_MENISCUS, "medial-meniscus", "MM", "#c34dd1", "medial", "meniscus"),
        Tissue(LATERAL_MENISCUS, "lateral-meniscus", "LM", "#4d67d1", "lateral", "meniscus"),
        Tissue(ANTERIOR_CRUCIATE, "anterior-cruciate-ligament", "ACL", "#d1344d", "", "ligament"),
        Tissue(POSTERIOR_CRUCIATE, "posterior-cruciate-ligament", "PCL", "#f28c28", "", "ligament"),
        Tissue(MEDIAL_COLLATERAL, "medial-collateral-ligament", "MCL", "#7fd1ff", "medial", "ligament"),
        Tissue(LATERAL_COLLATERAL, "lateral-collateral-ligament", "LCL", "#b6e34d", "lateral", "ligament"),
        Tissue(PATELLAR_LIGAMENT, "patellar-ligament", "PL", "#00a1c9", "", "ligament"),
        Tissue(QUADRICEPS_TENDON, "quadriceps-tendon", "QT", "#138a72", "", "ligament"),
        Tissue(QUADRICEPS, "quadriceps", "QM", "#a63d40", "", "muscle"),
        Tissue(HAMSTRINGS, "hamstrings", "HM", "#8c4a6b", "", "muscle"),
        Tissue(GASTROCNEMIUS, "gastrocnemius", "GM", "#b3574a", "", "muscle"),
        Tissue(LEG_MUSCLES, "leg-muscles", "LGM", "#7a3b2e", "", "muscle"),
        Tissue(FAT, "fat", "Fat", "#f3e6a1", "", "fat"),
        Tissue(SKIN, "skin", "Sk", "#d9b8a6", "", "skin"),
        Tissue(JOINT_FLUID, "joint-fluid", "JF", "#3fa7ff", "", "fluid"),
        Tissue(POPLITEAL_VESSELS, "popliteal-vessels", "PV", "#c2185b", "", "other"),
    )
)
"""The tissues of the procedural knee, bones first."""
