# shellcheck shell=bash
# tell LOG NAME: copy what a job says to its log and, with its name in front, to the terminal.
# Signals are left to the program before the pipe, so that its last lines are not lost.
tell() {
    trap '' INT TERM
    while IFS= read -r line || [ -n "$line" ]; do
        printf '%s\n' "$line" >&3
        printf '%s | %s\n' "$2" "$line" || true
    done 3>"$1"
}
