return { stages = {} }
