# fish completion of meshd. Load it with: meshd completion fish | source
function __meshd_complete
    set -l line (commandline -opc)
    set -l current (commandline -ct)
    string match -q -- '-*' $current; and set -a line $current
    $line --generate-bash-completion 2>/dev/null
end
complete -c meshd -a '(__meshd_complete)'
