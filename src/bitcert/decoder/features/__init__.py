"""Fixed feature sets: functions of the input that no data has shaped."""
