# Checks, their results, and the table of them. Whoever uses this defines journal_since SECONDS, of the unit under test.

RESULTS=$SCRATCH/results
: >"$RESULTS"
SCENARIO=

# scenario_kind_of FILE: of which kind the root filesystem is that it needs.
scenario_kind_of() {
    (
        scenario_kind() { echo base; }
        # shellcheck source=/dev/null
        . "$1"
        scenario_kind
    )
}

# run_scenario FILE: starts from a fresh container of the kind the scenario asks for.
run_scenario() {
    SCENARIO=$(basename "$1" .bash)
    # shellcheck source=/dev/null
    . "$1"
    if [ "$(scenario_kind_of "$1")" = plain ]; then
        checks
        return
    fi
    if ! { make_network && start_container "$(scenario_kind_of "$1")"; } >"$SCRATCH/log" 2>&1; then
        verdict 'the container boots' FAILED 0
        return
    fi
    checks
    [ -z "${open_shell:-}" ] || nsenter -t "$(leader)" -a bash -l
    stop_containers
}

# check 'A SENTENCE' FUNCTION: runs it in a subshell where any failure ends it, and notes what came of it.
# Never in front of '||' or behind 'if': bash would ignore 'set -e' down into the function.
check() {
    local begin end rc
    BEGAN=$(date +%s.%N)
    begin=$(date +%s%N)
    (
        set -e
        "$2"
    ) >"$SCRATCH/log" 2>&1
    rc=$?
    declare -F end_stream >/dev/null && end_stream 2>/dev/null
    end=$(date +%s%N)
    if [ $rc = 0 ]; then
        verdict "$1" ok $(((end - begin) / 1000000))
    else
        verdict "$1" FAILED $(((end - begin) / 1000000))
    fi
}

# passed: whether the last check has.
passed() {
    [ "$(tail -n1 "$RESULTS" | cut -f4)" = ok ]
}

verdict() {
    local note=
    [ ! -s "$SCRATCH/note" ] || note=$(cat "$SCRATCH/note")
    rm -f "$SCRATCH/note"
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$SUITE" "$SCENARIO" "$1" "$2" "$3" "$note" >>"$RESULTS"
    printf '%-9s %-11s %-78s %-6s %6d ms  %s\n' "$SUITE" "$SCENARIO" "$1" "$2" "$3" "$note"
    if [ "$2" != ok ]; then
        # In one piece: another suite may be writing as well.
        {
            sed 's/^/    | /' "$SCRATCH/log"
            journal_since "${BEGAN:-0}" 2>&1 | tail -n 40 | sed 's/^/    journal | /'
        } >"$SCRATCH/failure"
        cat "$SCRATCH/failure"
    fi
}

# note TEXT: a figure to show beside the check that is running.
note() {
    echo "$*" >"$SCRATCH/note"
}

# report SECONDS [WHAT]: true when there were checks and none failed.
report() {
    local failed total
    total=$(wc -l <"$RESULTS")
    failed=$(awk -F'\t' '$4 != "ok"' "$RESULTS" | wc -l)
    echo
    awk -F'\t' '$4 != "ok" { printf "FAILED  %s  %s  %s\n", $1, $2, $3 }' "$RESULTS"
    echo "${2:-}$total checks, $failed failed, $1 s"
    [ "$total" -gt 0 ] && [ "$failed" = 0 ]
}

# wait_until SECONDS COMMAND…: true as soon as the command is.
wait_until() {
    local end=$(($(date +%s%N) + $1 * 1000000000))
    shift
    until "$@" 2>/dev/null; do
        [ "$(date +%s%N)" -lt "$end" ] || return 1
        sleep 0.02
    done
}
