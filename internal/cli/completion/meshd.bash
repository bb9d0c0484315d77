# bash completion of meshd. Load it with: source <(meshd completion bash)
_meshd() {
    local current=${COMP_WORDS[COMP_CWORD]}
    local line=("${COMP_WORDS[@]:0:COMP_CWORD}")
    [[ $current == -* ]] && line+=("$current")
    local found
    found=$("${line[@]}" --generate-bash-completion 2>/dev/null)
    COMPREPLY=($(compgen -W "$found" -- "$current"))
}
# Where meshd has nothing to offer, file names are.
complete -o bashdefault -o default -F _meshd meshd
