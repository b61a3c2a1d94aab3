"""What stands in the tables of accuracy.py: methods, seeds and settings."""

from typing import Literal, NamedTuple


class Table(NamedTuple):
    """What stands in one table: a method may be followed by settings of its own, as on the command line."""

    methods: tuple[str, ...]
    settings: tuple[str, ...] = ()
    against: tuple[str, ...] = ("source_only", "dacs")
    seeds: tuple[int, ...] = (10, 11, 12, 13, 14)
    camvid: bool = False
    page: str = ""  # beside that of the others, if it has one of its own
    figure: Literal["", "scores", "differences"] = ""  # the latter from the first of `against`
    kept: str = ""  # what the names of rows begin with that are kept as they are: of recipes that are no more
    of: str = ""  # the table whose results these are, if not its own: other rows of it, on another page


# the parts of DA-STC away from the default: alignment off, sequence fusion off, labels over two frames off
UNALIGNED = "align='none'"
WITHOUT = ("fusion='none',clean_source=True,clean_target=True", "cross_frame='none'")
CAREFUL = "class_prior=0.0,match_histograms=False"  # takes nothing for granted of what the domains show
PARTS_OFF = tuple(f"dastc({part})" for part in ("clean_source=False", UNALIGNED, "memory=False", *WITHOUT, CAREFUL))
# DACS with the settings of DA-STC
DACS_ALIKE = "dacs(threshold=0.8,decay=0.98)"
LONGER = f"{DACS_ALIKE} --steps 750"  # took at least as long as 600 steps of DA-STC without the warm-up
AS_LONG = "dacs --steps 800"  # takes as long as 600 steps of DA-STC, or a little longer
STREET = (
    "source_only",
    "dacs",
    AS_LONG,
    "tps",
    "dastc_released",
    "dastc_released(warmup=150)",
    "dastc_released(warmup=600) --steps 1200",
    "dastc",
    *PARTS_OFF,
    "oracle",
)
MILD = ("source_only", "dacs", DACS_ALIKE, LONGER, "tps", "dastc", f"dastc({CAREFUL})", "oracle")
IMAGES = ("source_only", "dacs", "dastc", "oracle")
# under BatchNorm, its statistics alone adapt: no method is judged without that row
BATCH = tuple(
    f"{method} --norm batch{more}"
    for method, more in (("source_only", ""), ("source_only", " --adapt-statistics"), ("dacs", ""), ("dastc", ""))
)
# thin things are not learnt in 600 steps, even of the day: three times as many were chosen on a day held back
LONG = " --steps 1800"
CAMVID_LONG = tuple(f"{method}{LONG}" for method in ("source_only", "dacs", "dastc"))
CAMVID = ("source_only", "dacs", DACS_ALIKE, "dastc", *CAMVID_LONG)
CAMVID_AGAINST = ("source_only", "dacs", *CAMVID_LONG[:2])
# a day held back in place of dusk: other streets, hardly another light
HELD_BACK = ("--source-seqs", "0016E5,Seq05VD", "--target-seqs", "0006R0")
HELD = (
    "source_only",
    "dacs",
    "dastc",
    "dastc(match_histograms=False)",
    "dastc(class_prior=0.0)",
    f"dastc({CAREFUL})",
    "dastc(clean_source=False)",
)
# one part at a time, away from the default; what is not a part of DA-STC, too
SHARED = "fusion='shared',clean_source=True,clean_target=True"
PARTS = (
    "source_only",
    "dacs",
    "dastc",
    f"dastc({WITHOUT[0]})",
    "dastc(complementary=False)",
    "dastc(complementary=False,context_consistency=1.0)",
    f"dastc(fusion='shared',{UNALIGNED})",  # with `align` it needs the clean target
    f"dastc({SHARED})",
    f"dastc({SHARED},feature_fusion=0.3)",
    f"dastc({SHARED},feature_fusion=0.3,feature_fusion_both=True)",
    f"dastc({SHARED},feature_fusion=0.3,shallow='deep')",  # where the released code has it
    f"dastc({SHARED},target_patches=True)",  # the four paths of QuadMix
    "dastc(clean_source=False)",
    "dastc(source_context=False)",
    f"dastc({WITHOUT[1]})",
    "dastc(cross_frame='warped')",
    "dastc(cross_frame='agreeing')",
    "dastc(weighting='confidence')",
    "dastc(both_frames=True)",
    "dastc(both_frames=True,temporal=False)",
    "dastc --frames 3",
    "dastc --video",
    f"dastc({UNALIGNED})",
    "dastc(align='infonce')",
    "dastc(align='mmd')",
    "dastc(align='margin')",
    "dastc(align='pixel')",
    "dastc(features=None)",
    "dastc(memory=False)",
    "dastc --batch 2",
    "dastc(memory=False) --batch 2",
    "dastc(align_weight=0.3)",
    "dastc(align_ramp=300)",
    "dastc(align_context='in_source')",
    "dastc(align_context='in_target')",
    "dastc(align_context='clean',clean_target=True)",
    "dastc(clean_target=True)",
    "dastc(decay=0.99)",
    "dastc(class_prior=0.0)",
    "dastc(class_prior_grid=(1,1))",
    "dastc(class_prior_views=(1.0,0.0))",
    "dastc(match_histograms=False)",
    "dastc(histogram_grid=(1,1))",
    "dastc(warmup=0)",
    "dastc(rare_probability=0.5)",
    "dastc(bank=True)",
    "dastc --rare 0.05",
    "dastc(masked_target=0.5)",
    "dastc --scales 1 0.5",
)


def old(parts):
    """Return a row of before the default trained on the clean source, too."""
    return f"dastc({parts})" if "clean_source" in parts else f"dastc({parts},clean_source=False)"


# what the default was: at first; with the warm-up and bands of the class prior; with cells of it (OWN alone); with the
# target's histograms, matched over the whole picture; with those in bands (ALIGNED); without alignment (ONE_VIEW
# alone); with views of the cells (TWO_FRAMES alone); with alignment again and the loss on the current frame alone; with
# the clean source beside the fused clips
BOTH = "both_frames=True"
TWO_FRAMES = f"{BOTH},{UNALIGNED}"
VIEW = "class_prior_views=(1.0,0.0)"
ONE_VIEW = f"{TWO_FRAMES},{VIEW}"
INFONCE = "align='infonce'"
ALIGNED = f"{BOTH},{VIEW},{INFONCE}"
WHOLE = f"{ALIGNED},histogram_grid=(1,1)"
OWN = f"{ALIGNED},match_histograms=False"
FLAT = "warmup=0,class_prior_grid=(1,1)"  # one cell looks alike in any view
BEFORE = f"{BOTH},{INFONCE},match_histograms=False,{FLAT}"
BANDS = f"{OWN},class_prior_grid=(8,1)"
NO_PRIOR = f"{BOTH},{INFONCE},match_histograms=False,warmup=0,class_prior=0.0"
# DACS made of DA-STC's parts, so that it can have the warm-up and the prior, too
ONE_WAY = "source_context=False,clean_source=True,cross_frame='none'"
EARLIER_STREET = (
    "dastc",
    old(UNALIGNED),
    old(TWO_FRAMES),
    *(old(f"{TWO_FRAMES},{part}") for part in WITHOUT),
    old(ONE_VIEW),
    old(f"{BOTH},{VIEW},align='cdd'"),
    old(ALIGNED),
    *(old(f"{ALIGNED},{part}") for part in WITHOUT),
    old(WHOLE),
    old(OWN),
    old(BANDS),
    old(f"{BOTH},{INFONCE},match_histograms=False,class_prior=0.0"),
    old(BEFORE),
    old(NO_PRIOR),
)
EARLIER_MILD = (
    "dastc",
    old(TWO_FRAMES),
    old(ONE_VIEW),
    old(ALIGNED),
    old(BEFORE),
    old(NO_PRIOR),
    old(f"{TWO_FRAMES},match_histograms=False,{FLAT},{ONE_WAY}"),
)
EARLIER_PARTS = (
    "dastc",
    "dastc(clean_source=False)",
    old(UNALIGNED),
    old(BOTH),
    f"dastc({TWO_FRAMES})",
    *(
        old(f"{TWO_FRAMES}{part}")
        for part in (
            "",
            ",class_prior=0.0",
            ",class_prior_grid=(1,1)",
            ",clean_source=True",
            ",cross_frame='warped'",
            ",cross_frame='agreeing'",
            ",masked_target=0.5",
            ",decay=0.99",
        )
    ),
    *(
        old(f"{ONE_VIEW}{part}")
        for part in (
            "",
            ",match_histograms=False",
            ",histogram_grid=(1,1)",
            ",warmup=0",
            ",warmup=300",
            f",{WITHOUT[0]}",
            ",complementary=False",
            f",{SHARED}",
            f",{SHARED},feature_fusion=0.3",
            f",{WITHOUT[1]}",
        )
    ),
    *(
        old(f"{BOTH},{VIEW},{part}")
        for part in (
            INFONCE,
            "align='cdd'",
            "align='mmd'",
            "align='margin'",
            "align='pixel'",
            f"{INFONCE},align_weight=1.0",
            "align='cdd',align_weight=0.3",
            "align='cdd',align_weight=1.0",
        )
    ),
    old(BANDS),
    old(f"{BANDS},warmup=0"),
    old(BEFORE),
)
EARLIER_IMAGES = ("dastc", old(TWO_FRAMES), old(ONE_VIEW), old(ALIGNED))
EARLIER_CAMVID = (
    "dastc",
    "dastc(clean_source=False)",
    old(TWO_FRAMES),
    old(ONE_VIEW),
    old(ALIGNED),
    old(WHOLE),
    old(OWN),
    old(BEFORE),
    f"dastc{LONG}",
    f"{old(TWO_FRAMES)}{LONG}",
)
FAR = ("source_only", "dacs", "tps", old(ONE_VIEW), old(BEFORE), old(NO_PRIOR), "oracle")
VAL, DAYS = (20, 21, 22, 23, 24), (10, 11, 12)
EARLIER = "earlier.md"
# what the defaults were chosen by: DASTC's first defaults, then with other weights, then with the class prior
PLAIN = "match_histograms=False,warmup=0"
FIRST, SURER = (f"{PLAIN},threshold={threshold},class_prior=0.0,decay=0.99" for threshold in (0.968, 0.9))
PRIOR = f"match_histograms=False,{FLAT},threshold=0.9,class_prior=1.0,decay=0.99"
CHOICES = (
    "dacs",
    "dacs(threshold=0.9)",
    old(f"{BOTH},{INFONCE},{FIRST}"),
    old(f"{TWO_FRAMES},{FIRST}"),
    old(f"{BOTH},{INFONCE},{FIRST},clean_source=True"),
    old(f"{BOTH},{INFONCE},{FIRST},weighting='confidence'"),
    old(f"{BOTH},{INFONCE},{SURER}"),
    old(f"{TWO_FRAMES},{SURER}"),
    old(f"{BOTH},{INFONCE},{SURER},clean_source=True"),
    old(f"{BOTH},{INFONCE},{SURER},cross_frame='agreeing'"),
    old(f"{BOTH},{INFONCE},{SURER},cross_frame='none'"),
    old(f"{BOTH},{INFONCE},warmup=0,threshold=0.9,class_prior=0.0,decay=0.99,histogram_grid=(1,1)"),
    old(f"{BOTH},{INFONCE},{PLAIN},threshold=0.8,class_prior=0.0,decay=0.99"),
    old(f"{BOTH},{INFONCE},{PLAIN},threshold=0.9,class_prior=0.0,decay=0.98"),
    old(f"{BEFORE},threshold=0.968,class_prior=1.0,decay=0.99"),
    old(f"{BOTH},{INFONCE},{PRIOR}"),
    old(f"{BOTH},align='cdd',{PRIOR}"),
    old(f"{TWO_FRAMES},{PRIOR}"),
    old(f"{BOTH},{INFONCE},{PRIOR},align_weight=1.0"),
    old(f"{BOTH},{INFONCE},{PRIOR},clean_source=True"),
    old(f"{BOTH},{INFONCE},{PRIOR},cross_frame='none'"),
    old(f"{TWO_FRAMES},{PRIOR},{ONE_WAY}"),
    old(f"{BEFORE},threshold=0.8,class_prior=1.0,decay=0.98"),
)
TABLES = {
    "street": Table(STREET, against=("source_only", "dacs", "dastc"), seeds=(15, 16, 17, 18, 19), figure="scores"),
    "mild": Table(MILD, ("--shift", "1"), against=("source_only", "dacs", DACS_ALIKE)),
    "images": Table(IMAGES, ("--frames", "1")),
    "parts": Table(PARTS, ("--split", "val"), against=("dastc",), seeds=VAL, figure="differences"),
    "batch": Table(BATCH, against=BATCH[:2]),
    "camvid": Table(CAMVID, against=CAMVID_AGAINST, seeds=DAYS, camvid=True),
    "camvid_images": Table(CAMVID[:4], ("--frames", "1"), seeds=DAYS, camvid=True),
    "camvid_flow": Table(
        ("source_only", old(WHOLE), old(WHOLE) + " --flow dis"),
        against=("source_only", old(WHOLE)),
        seeds=DAYS,
        camvid=True,
        page="flow.md",
    ),
    "held": Table(HELD, HELD_BACK, against=("source_only",), seeds=VAL[:3], camvid=True),
    "choices": Table(
        CHOICES,
        ("--split", "val", "--shift", "1"),
        against=(old(f"{BOTH},{INFONCE},{FIRST}"),),
        seeds=(0, 1),
        page=EARLIER,
    ),
    "far": Table(FAR, ("--shift", "1.2"), page=EARLIER),
}
TABLES |= {
    f"earlier_{name}": TABLES[name]._replace(methods=methods, against=against, page=EARLIER, figure="", of=name)
    for name, methods, against in (
        ("street", EARLIER_STREET, ("dastc",)),
        ("mild", EARLIER_MILD, ("dastc",)),
        ("images", EARLIER_IMAGES, ("dastc",)),
        ("parts", EARLIER_PARTS, ("dastc", old(TWO_FRAMES), old(ONE_VIEW))),
        ("camvid", EARLIER_CAMVID, ("dastc", f"dastc{LONG}")),
        ("camvid_images", EARLIER_IMAGES, ("dastc",)),
    )
}
# what DA-STC was when these rows were taken had a memory of centroids and switches for its parts: docs/results.md says
# what each name means in parts of today, and each row has the commit that made it
TABLES = {name: table._replace(kept="dastc") for name, table in TABLES.items()}
