# shellcheck shell=bash
# How the demos tell what they do: sourced, it runs nothing.

bold='' dim='' off=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' off=$'\e[0m'; fi

# say COMMAND...: the command as a reader would type it.
say() {
	local words=("${@/#"$PWD/"/}")
	printf '%s$ %s%s\n' "$dim" "${words[*]/#bin\//}" "$off"
}

# tell TEXT: a sentence of the story.
tell() { printf '  %s%s%s\n' "$dim" "$1" "$off"; }

# run COMMAND...: shows a command and runs it.
run() {
	say "$@"
	"$@"
}

# prove FILE COMMAND...: shows and runs a proof, whose outcome is in FILE and
# shown later by tsugictl show; at once if it does not hold.
prove() {
	local file=$1
	shift
	say "$@"
	"$@" >"$file" || {
		cat "$file"
		exit 1
	}
}

# stage TITLE COMMAND...: runs a step of the story and keeps its time.
times=()
begin=$EPOCHREALTIME
stage() {
	local title=$1 start=$EPOCHREALTIME
	shift
	printf '\n%s%s%s\n' "$bold" "$title" "$off"
	"$@"
	times+=("$(printf '%-52s %7.1f s' "$title" "$(bc <<<"$EPOCHREALTIME - $start")")")
}

# ending: the times of the stages.
ending() {
	echo
	for t in "${times[@]}"; do printf '  %s\n' "$t"; done
	printf '  %s%-52s %7.1f s%s\n' "$bold" "in all" "$(bc <<<"$EPOCHREALTIME - $begin")" "$off"
}
