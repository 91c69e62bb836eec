"""Advice on columns of kinds that JSON rows do not hold."""

DATES = "Make dates numbers (seconds: X[c].map(pd.Timestamp.timestamp); or X[c].dt.year, X[c].dt.dayofweek)"
DURATIONS = "Make durations numbers (X[c].dt.total_seconds())"

ADVICE = {
    **dict.fromkeys(["datetime64", "datetime"], DATES),
    "date": "Make dates numbers (pd.to_datetime(X[c]).dt.dayofyear, or days since one of them)",
    "time": "Make times numbers (X[c].map(lambda t: t.hour + t.minute / 60))",
    "period": "Make periods numbers or texts (X[c].dt.year, X[c].astype(str))",
    **dict.fromkeys(["timedelta64", "timedelta"], DURATIONS),
    "interval": "Make intervals texts (X[c].astype(str))",
    "decimal": "Make decimal numbers floats (X[c].astype(float))",
    "bytes": "Make bytes texts (X[c].str.decode('utf-8'))",
    "mixed-integer": "Make all of them texts (X[c].astype(str)) or all numbers (pd.to_numeric(X[c]))",
    "complex": "Make complex numbers two columns (np.real, np.imag)",
}
"""Advice for a column `c` of a frame X, by the kind of values that pandas infers."""

OTHER_ADVICE = "Make the parts of nested values columns, and all values of a column one type"
