"""Times and sizes as a reader wants them."""


def format_time(seconds: float) -> str:
    """Returns "48 s", "2 min 05 s" or "1 h 40 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def format_size(size: int) -> str:
    """Returns "640 B", "16 kB" or "3.4 MB", in powers of 1000."""
    if size < 1000:
        return f"{size} B"
    value, unit = size / 1000, "kB"
    if value >= 999.5:  # would be shown as 1,000
        value, unit = value / 1000, "MB"
    return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
