#compdef meshd
# zsh completion of meshd. Load it with: source <(meshd completion zsh)
_meshd() {
    local current=${words[CURRENT]}
    local -a line found
    line=(${words[1,CURRENT-1]})
    [[ $current == -* ]] && line+=($current)
    found=(${(f)"$($line --generate-bash-completion 2>/dev/null)"})
    if (( $#found )); then
        compadd -- $found
    else
        _files
    fi
}
if [[ $funcstack[1] == _meshd ]]; then
    _meshd "$@"
else
    compdef _meshd meshd
fi
