"""How answers are judged, kind of label by kind of label: figures, calibration, baselines, mistakes."""
