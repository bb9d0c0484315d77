package cli

// diffContext is how many lines that stay are shown around those that do not.
const diffContext = 3

// diffLines gives the lines of two texts as one, marked with what becomes of each:
// -, + or a space. Of long stretches that stay only the ends are shown.
func diffLines(before, after []string) []string { return nearChanges(allLines(before, after)) }

func allLines(before, after []string) (all []string) {
	i, j := 0, 0
	for _, common := range commonLines(before, after) {
		all = append(all, marked("-", before[i:common[0]])...)
		all = append(all, marked("+", after[j:common[1]])...)
		all = append(all, " "+before[common[0]])
		i, j = common[0]+1, common[1]+1
	}
	all = append(all, marked("-", before[i:])...)
	return append(all, marked("+", after[j:])...)
}

func marked(mark string, lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = mark + line
	}
	return out
}

// commonLines gives the indexes of a longest common subsequence. What both begin
// and end with is set aside first, so that large texts with small changes are
// cheap.
func commonLines(a, b []string) (pairs [][2]int) {
	start, end := 0, 0
	for start < min(len(a), len(b)) && a[start] == b[start] {
		pairs = append(pairs, [2]int{start, start})
		start++
	}
	for end < min(len(a), len(b))-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	middle := longestCommon(a[start:len(a)-end], b[start:len(b)-end])
	for _, p := range middle {
		pairs = append(pairs, [2]int{p[0] + start, p[1] + start})
	}
	for k := end; k > 0; k-- {
		pairs = append(pairs, [2]int{len(a) - k, len(b) - k})
	}
	return pairs
}

// maxTable bounds the work of finding what two texts have in common.
const maxTable = 4 << 20

func longestCommon(a, b []string) (pairs [][2]int) {
	if len(a) == 0 || len(b) == 0 || len(a) > maxTable/len(b) {
		return nil // all of it is shown as changed
	}
	// best[i][j] is the length for a[i:] and b[j:].
	best := make([][]int32, len(a)+1)
	for i := range best {
		best[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			best[i][j] = max(best[i+1][j], best[i][j+1])
			if a[i] == b[j] {
				best[i][j] = best[i+1][j+1] + 1
			}
		}
	}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			pairs = append(pairs, [2]int{i, j})
			i, j = i+1, j+1
		case best[i+1][j] >= best[i][j+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}

// nearChanges leaves out the lines that stay and are far from any that do not.
func nearChanges(lines []string) (near []string) {
	last := -1 // line taken last
	for i, line := range lines {
		if line[0] == ' ' && !changes(lines[max(0, i-diffContext):min(len(lines), i+diffContext+1)]) {
			continue
		}
		if last >= 0 && i > last+1 {
			near = append(near, "@@")
		}
		near, last = append(near, line), i
	}
	return near
}

func changes(lines []string) bool {
	for _, line := range lines {
		if line[0] != ' ' {
			return true
		}
	}
	return false
}
