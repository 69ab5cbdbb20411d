"""stub"""
from emixer.data.phantom.film import render_frontal
def render_lateral(anatomy, findings, frame, exposure, key):
    return render_frontal(anatomy, findings, findings.heart_ratio, frame, exposure, key)
