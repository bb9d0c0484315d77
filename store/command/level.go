package command

// MaxLevel is the highest feature level that this version of meshd knows. A
// mesh is at the highest level that all of its servers know, and nothing of a
// higher one is written to its log.
const MaxLevel = 2

// LevelOf is the feature level that an entry of that type needs. It is above
// MaxLevel for a type that is not known.
func LevelOf(t Type) uint32 {
	switch {
	case t == TypeSetFeatureLevel:
		// It must come through for the level to rise, and is refused unless all
		// servers know the level that it raises to, and with that the entry.
		return 1
	case t >= TypeInitCluster && t <= TypePutAuthority:
		return 1
	case t >= TypeAudited && t <= TypeRestoreState:
		return 2
	}
	return MaxLevel + 1
}
