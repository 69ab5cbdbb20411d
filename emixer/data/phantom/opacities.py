"""stub"""
def diseased_lung(chest, vessels, rng):
    return chest.air, vessels * (chest.air>0.3)
